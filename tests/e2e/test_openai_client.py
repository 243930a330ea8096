"""The official OpenAI client against a real server with the built-in model."""

from __future__ import annotations

from pathlib import Path

import openai
import pytest

from tests.support.served import Served, serve

MODEL = "shimmy-demo"
QUESTION = [{"role": "user", "content": "What is shimmy?"}]


def test_a_chat_completion_is_sensible_and_counted(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=0)
    (choice,) = answer.choices
    assert "inference server" in choice.message.content
    assert choice.finish_reason == "stop"
    usage = answer.usage
    assert usage.prompt_tokens > 0
    assert usage.completion_tokens > 0
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_a_streamed_answer_is_the_same_text_with_usage_last(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=0)
    chunks = list(
        client.chat.completions.create(
            model=MODEL,
            messages=QUESTION,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].choices == []
    assert chunks[-1].usage.prompt_tokens == whole.usage.prompt_tokens
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_prompt_seen_before_is_reported_as_cached(client: openai.OpenAI) -> None:
    messages = [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "How many legs has a cat, and who counted them?"},
    ]

    def usage():
        answer = client.chat.completions.create(model=MODEL, messages=messages, max_tokens=4)
        return answer.usage

    usage()
    again = usage()
    assert again.prompt_tokens_details.cached_tokens == again.prompt_tokens - 1


def test_the_stream_helper_accumulates_the_same_answer(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model=MODEL, messages=QUESTION, temperature=0) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()
    assert "inference server" in final.choices[0].message.content
    assert final.choices[0].finish_reason == "stop"


def test_a_text_completion_continues_a_story(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model=MODEL, prompt="Once upon a time", max_tokens=24, temperature=0
    )
    assert len(answer.choices[0].text.split()) > 5
    assert answer.usage.completion_tokens <= 24


def test_max_tokens_ends_with_length(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=QUESTION, max_tokens=3, temperature=0
    )
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 3


def test_a_stop_string_is_not_in_the_text(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=QUESTION, stop=["server"], temperature=0
    )
    assert "inference " in answer.choices[0].message.content
    assert "server" not in answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"


def test_the_same_seed_gives_the_same_text(tmp_path: Path) -> None:
    """On a server of its own: llama.cpp rounds by the cells in use, which others fill."""
    with (
        serve(tmp_path) as server,
        openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0) as client,
    ):

        def text() -> str:
            answer = client.completions.create(
                model=MODEL,
                prompt="Once upon a time",
                max_tokens=32,
                temperature=1.0,
                seed=42,
                extra_body={"cache_prompt": False},
            )
            return str(answer.choices[0].text)

        assert text() == text() == text()


def test_the_models_are_listed_and_found(client: openai.OpenAI) -> None:
    assert MODEL in [model.id for model in client.models.list()]
    assert client.models.retrieve(MODEL).owned_by == "shimmy"


def test_an_unknown_model_is_a_404_that_lists_what_there_is(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-9", messages=QUESTION)
    assert caught.value.code == "model_not_found"
    assert MODEL in str(caught.value)


def test_a_prompt_longer_than_the_context_is_a_400_with_both_spellings(
    client: openai.OpenAI,
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model=MODEL, prompt=[5] * 5000, max_tokens=1)
    assert caught.value.code == "context_length_exceeded"
    assert caught.value.type == "exceed_context_size_error"


def test_a_bad_value_is_a_400_that_names_the_field(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=-3)
    assert caught.value.param == "temperature"


def test_a_tool_is_called_and_its_result_is_used(client: openai.OpenAI) -> None:
    tool = {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Get the current weather in a city",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string", "description": "The city"}},
                "required": ["city"],
            },
        },
    }
    messages = [{"role": "user", "content": "What is the weather in Paris?"}]
    first = client.chat.completions.create(
        model=MODEL, messages=messages, tools=[tool], temperature=0
    ).choices[0]
    assert first.finish_reason == "tool_calls"
    (call,) = first.message.tool_calls
    assert (call.function.name, call.function.arguments.replace(" ", "")) == (
        "get_weather",
        '{"city":"Paris"}',
    )
    messages += [
        first.message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": '{"weather": "sunny"}'},
    ]
    second = client.chat.completions.create(
        model=MODEL, messages=messages, tools=[tool], temperature=0
    ).choices[0]
    assert second.finish_reason == "stop"
    assert second.message.content


def test_the_native_route_answers(served: Served) -> None:
    status, body = served.post(
        "/api/generate",
        {
            "model": MODEL,
            "messages": [{"role": "user", "content": "What is shimmy?"}],
            "stream": False,
            "temperature": 0,
        },
    )
    assert status == 200
    assert "inference server" in body["response"]
