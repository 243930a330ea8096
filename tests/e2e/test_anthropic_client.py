"""Anthropic's official client against a real server with the built-in model."""

from __future__ import annotations

from collections.abc import Iterator

import anthropic
import pydantic
import pytest

from tests.support.served import Served

MODEL = "shimmy-demo"
QUESTION = [{"role": "user", "content": "What is shimmy?"}]
FORECAST = [{"role": "user", "content": "What is the weather in Paris?"}]
# no longer a parameter of the client's, but one of the API's
ASK = {"model": MODEL, "max_tokens": 100, "extra_body": {"temperature": 0}}
TOOL = {
    "name": "get_weather",
    "description": "Get the current weather in a city",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "description": "The city"}},
        "required": ["city"],
    },
}


@pytest.fixture
def claude(served: Served) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=served.url, api_key="none", max_retries=0) as client:
        yield client


def test_a_message_is_sensible_and_counted(claude):
    message = claude.messages.create(**ASK, messages=QUESTION)
    assert "inference server" in message.content[0].text
    assert message.stop_reason == "end_turn"
    assert message.usage.output_tokens > 0


def test_streaming_equals_non_streaming(claude):
    whole = claude.messages.create(**ASK, messages=QUESTION)
    with claude.messages.stream(**ASK, messages=QUESTION) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == final.content[0].text == whole.content[0].text
    assert final.stop_reason == whole.stop_reason
    assert final.usage.output_tokens == whole.usage.output_tokens


def test_counting_tokens_agrees_with_what_a_message_costs(claude):
    fields = {"messages": FORECAST, "system": "You are a helpful assistant.", "tools": [TOOL]}
    counted = claude.messages.count_tokens(model=MODEL, **fields)
    usage = claude.messages.create(**ASK, **fields).usage
    assert counted.input_tokens == usage.input_tokens + usage.cache_read_input_tokens


def test_a_prompt_seen_before_is_read_from_the_cache(claude):
    messages = [{"role": "user", "content": "How many legs has a spider, and who says so?"}]
    first, again = (
        claude.messages.create(**{**ASK, "max_tokens": 4}, messages=messages).usage
        for _ in range(2)
    )
    assert again.cache_read_input_tokens > first.cache_read_input_tokens
    assert again.input_tokens == 1


CHOICES = [None, {"type": "any"}, {"type": "tool", "name": "get_weather"}]


@pytest.mark.parametrize("choice", CHOICES, ids=["auto", "any", "tool"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_is_called_and_its_result_is_used(claude, choice, stream):
    fields = {"messages": FORECAST, "tools": [TOOL]} | ({"tool_choice": choice} if choice else {})
    if stream:
        with claude.messages.stream(**ASK, **fields) as events:
            first = events.get_final_message()
    else:
        first = claude.messages.create(**ASK, **fields)
    assert first.stop_reason == "tool_use"
    (use,) = (block for block in first.content if block.type == "tool_use")
    assert (use.name, use.input) == ("get_weather", {"city": "Paris"})
    assert use.id.startswith("toolu_")
    result = {"type": "tool_result", "tool_use_id": use.id, "content": '{"weather": "sunny"}'}
    turns = [*FORECAST, first.to_param(), {"role": "user", "content": [result]}]
    second = claude.messages.create(**ASK, messages=turns, tools=[TOOL])
    assert second.stop_reason == "end_turn"
    assert second.content[0].text


def test_a_named_tool_is_called_whatever_was_asked(claude):
    clock = {"name": "get_time", "input_schema": {"type": "object", "properties": {}}}
    message = claude.messages.create(
        **ASK,
        messages=FORECAST,
        tools=[TOOL, clock],
        tool_choice={"type": "tool", "name": "get_time"},
    )
    (use,) = (block for block in message.content if block.type == "tool_use")
    assert (use.name, use.input) == ("get_time", {})


def test_ids_of_calls_differ_from_turn_to_turn(claude):
    calls = [
        claude.messages.create(**ASK, messages=FORECAST, tools=[TOOL]).content[-1].id
        for _ in range(2)
    ]
    assert len(set(calls)) == 2


def test_a_format_constrains_the_answer(claude):
    class Sure(pydantic.BaseModel):
        sure: bool

    message = claude.messages.parse(**ASK, messages=QUESTION, output_format=Sure)
    assert isinstance(message.parsed_output, Sure)


def test_a_stop_sequence_is_told_and_not_in_the_text(claude):
    message = claude.messages.create(**ASK, messages=QUESTION, stop_sequences=["server"])
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "server")
    assert message.content[0].text.endswith("inference ")


def test_max_tokens_ends_with_max_tokens(claude):
    message = claude.messages.create(**{**ASK, "max_tokens": 3}, messages=QUESTION)
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 3)


def test_a_prefilled_answer_is_continued_without_what_was_given(claude):
    whole = claude.messages.create(**ASK, messages=QUESTION).content[0].text
    given = whole[: whole.index("inference")].rstrip()
    turns = [*QUESTION, {"role": "assistant", "content": given}]
    rest = claude.messages.create(**ASK, messages=turns).content[0].text
    assert given + rest == whole


def test_a_conversation_too_long_is_a_bad_request_in_known_words(claude):
    words = [{"role": "user", "content": "word " * 9000}]
    with pytest.raises(anthropic.BadRequestError, match="prompt is too long: ") as caught:
        claude.messages.create(**ASK, messages=words)
    assert caught.value.type == "invalid_request_error"


def test_an_image_without_data_is_a_bad_request_that_says_so(claude):
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": ""}}
    with pytest.raises(anthropic.BadRequestError, match="image"):
        claude.messages.create(**ASK, messages=[{"role": "user", "content": [image]}])


def test_an_unknown_model_is_not_found(claude):
    with pytest.raises(anthropic.NotFoundError, match=MODEL):
        claude.messages.create(**{**ASK, "model": "claude"}, messages=QUESTION)


def test_leaving_a_stream_frees_its_place(claude, served):
    story = [{"role": "user", "content": "Tell me a story."}]
    for _ in range(9):
        with claude.messages.stream(**{**ASK, "max_tokens": 400}, messages=story) as stream:
            next(iter(stream.text_stream))
    assert claude.messages.create(**ASK, messages=QUESTION).stop_reason == "end_turn"
    served.wait_idle()
