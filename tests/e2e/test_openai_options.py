"""The official OpenAI client and the built-in model: choices, log-probabilities, tools, schemas, vectors."""

from __future__ import annotations

import json
import math
import urllib.request

import openai
import pydantic
import pytest

from tests.server.test_choices import assemble, chunks_of, whole
from tests.support.served import Served

MODEL = "shimmy-demo"
QUESTION = [{"role": "user", "content": "What is shimmy?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
TIME = {
    "type": "function",
    "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}}},
}


def chat(client: openai.OpenAI, **fields):
    fields = {"model": MODEL, "messages": QUESTION, "temperature": 0, "max_tokens": 64, **fields}
    return client.chat.completions.create(**fields)


def streamed(client: openai.OpenAI, **fields):
    """Return what the stream helper puts together."""
    fields = {"model": MODEL, "messages": QUESTION, "temperature": 0, "max_tokens": 64, **fields}
    with client.chat.completions.stream(**fields) as stream:
        for _ in stream:
            pass
        return stream.get_final_completion()


def test_n_choices_share_one_prompt(client: openai.OpenAI) -> None:
    fields = {"model": MODEL, "prompt": "Once upon a time", "max_tokens": 12, "temperature": 1}
    answer = client.completions.create(n=3, seed=7, **fields)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len({choice.text for choice in answer.choices}) > 1
    alone = client.completions.create(**fields)
    assert answer.usage.prompt_tokens == alone.usage.prompt_tokens
    assert alone.usage.completion_tokens < answer.usage.completion_tokens <= 36


OPTIONS = {
    "plain": {},
    "n": {"n": 3, "temperature": 1.5, "seed": 7},
    "logprobs": {"logprobs": True, "top_logprobs": 3},
    "stop": {"stop": ["server"]},
    "tool": {"tools": [WEATHER], "tool_choice": "required"},
    "tool with logprobs": {"tools": [WEATHER], "tool_choice": "required", "logprobs": True},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_streaming_equals_one_piece(client: openai.OpenAI, name: str) -> None:
    def strip(answer) -> list:
        choices = answer.model_dump(exclude_none=True)["choices"]
        for choice in choices:
            choice["message"].pop("parsed", None)
            for call in choice["message"].get("tool_calls", []):
                call.pop("id")
                call.pop("index", None)
                call["function"].pop("parsed_arguments", None)
            for entry in (choice.get("logprobs") or {}).get("content", []):
                # two runs round differently
                entry["logprob"] = entry.pop("logprob") > -1e3
                entry.pop("top_logprobs")
        return choices

    whole, stream = chat(client, **OPTIONS[name]), streamed(client, **OPTIONS[name])
    assert strip(stream) == strip(whole)


TEXT_OPTIONS = {
    "echo, scored": {"echo": True, "logprobs": 2},
    "echo of tokens": {"prompt": [[50, 60], [70, 80, 90]], "echo": True},
    "n and several prompts": {"prompt": ["Once upon a time", "The sky"], "n": 2, "echo": True,
                              "logprobs": 0},
    "parts of characters": {"prompt": "naïve café 日本", "echo": True, "logprobs": 1},
    "stop": {"stop": [" named"], "logprobs": 1, "max_tokens": 30},
    "nothing": {"max_tokens": 0, "echo": True, "logprobs": 1},
}  # fmt: skip


@pytest.mark.parametrize("name", TEXT_OPTIONS)
def test_a_streamed_completion_equals_one_piece(served: Served, name: str) -> None:
    body = {"prompt": "Once upon a time", "max_tokens": 6, "temperature": 0, **TEXT_OPTIONS[name]}
    options = {"stream": True, "stream_options": {"include_usage": True}}

    def strip(answer: dict) -> dict:
        # what was cached, and the last digits, differ from run to run
        answer["usage"].pop("prompt_tokens_details")
        for choice in answer["choices"].values():
            for name in ("top_logprobs", "token_logprobs"):
                if choice["logprobs"]:
                    choice["logprobs"][name] = len(choice["logprobs"][name])
        return answer

    _, in_one = served.post("/v1/completions", body)
    data = json.dumps({**body, **options}).encode()
    request = urllib.request.Request(served.url + "/v1/completions", data)
    with urllib.request.urlopen(request, timeout=60) as answer:
        streamed = answer.read().decode()
    assert strip(assemble(chunks_of(streamed))) == strip(whole(in_one))


def test_logprobs_belong_to_the_tokens_of_the_text(client: openai.OpenAI) -> None:
    choice = chat(client, logprobs=True, top_logprobs=3, max_tokens=8).choices[0]
    entries = choice.logprobs.content
    assert "".join(entry.token for entry in entries) == choice.message.content
    for entry in entries:
        assert bytes(entry.bytes).decode() == entry.token
        assert len(entry.top_logprobs) == 3
        # greedy: what came is the likeliest
        assert entry.top_logprobs[0].token == entry.token
        assert sum(math.exp(each.logprob) for each in entry.top_logprobs) <= 1.0001


def test_echo_scores_a_prompt_as_it_scores_what_it_generates(client: openai.OpenAI) -> None:
    """lm-eval's way: the log-probabilities of a continuation that is given."""
    fields = {"model": MODEL, "temperature": 0, "logprobs": 1}
    said = client.completions.create(prompt="Once upon a time", max_tokens=6, **fields).choices[0]
    scored = client.completions.create(
        prompt="Once upon a time" + said.text, max_tokens=1, echo=True, **fields
    ).choices[0]
    assert scored.text.startswith("Once upon a time" + said.text)
    n = len(said.logprobs.tokens)
    assert scored.logprobs.tokens[-n - 1 : -1] == said.logprobs.tokens
    assert scored.logprobs.token_logprobs[0] is None
    assert scored.logprobs.token_logprobs[-n - 1 : -1] == pytest.approx(
        said.logprobs.token_logprobs, abs=0.05
    )
    for token, offset in zip(scored.logprobs.tokens, scored.logprobs.text_offset, strict=True):
        assert scored.text[offset : offset + len(token)] == token


def test_several_prompts_are_answered_in_their_order(client: openai.OpenAI) -> None:
    prompts = ["Once upon a time", "The capital of France is"]
    fields = {"model": MODEL, "temperature": 0, "max_tokens": 6}
    together = client.completions.create(prompt=prompts, **fields)
    alone = [client.completions.create(prompt=prompt, **fields) for prompt in prompts]
    assert [each.text for each in together.choices] == [each.choices[0].text for each in alone]
    assert together.usage.prompt_tokens == sum(each.usage.prompt_tokens for each in alone)


def test_best_of_is_the_likeliest_of_several(client: openai.OpenAI) -> None:
    fields = {"model": MODEL, "prompt": "Once upon a time", "max_tokens": 6, "temperature": 1.5}
    every = client.completions.create(n=4, seed=3, logprobs=0, **fields).choices
    best = client.completions.create(best_of=4, seed=3, **fields).choices
    likeliest = max(every, key=lambda each: sum(each.logprobs.token_logprobs))
    assert [each.text for each in best] == [likeliest.text]


def test_a_banned_token_does_not_come(client: openai.OpenAI) -> None:
    first = chat(client, logprobs=True, max_tokens=1).choices[0].logprobs.content[0].token
    token = client.post("../tokenize", body={"content": first}, cast_to=object)
    (banned,) = token["tokens"]
    again = chat(client, logit_bias={banned: -100}, max_tokens=1)
    assert again.choices[0].message.content != first


def test_min_tokens_holds_off_the_end(client: openai.OpenAI) -> None:
    usual = chat(client).usage.completion_tokens
    longer = chat(client, extra_body={"min_tokens": usual + 4}, max_tokens=usual + 8)
    assert longer.usage.completion_tokens >= usual + 4


def test_a_stop_token_ends_the_text(client: openai.OpenAI) -> None:
    tokens = client.post("../tokenize", body={"content": "Once upon a time"}, cast_to=object)
    answer = client.completions.create(
        model=MODEL,
        prompt="Once upon",
        temperature=0,
        max_tokens=8,
        extra_body={"stop_token_ids": [tokens["tokens"][-1]]},
    )
    assert answer.choices[0].text in {" a", " a time"}
    assert answer.choices[0].finish_reason == "stop"


def test_a_last_assistant_message_is_gone_on_with(client: openai.OpenAI) -> None:
    said = chat(client, max_tokens=16).choices[0].message.content
    begun = said[: said.index(" ", 8)]
    answer = chat(
        client, messages=[*QUESTION, {"role": "assistant", "content": begun}], max_tokens=4
    )
    assert said.startswith(begun + answer.choices[0].message.content)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("required", {"get_weather", "get_time"}),
        ({"type": "function", "function": {"name": "get_time"}}, {"get_time"}),
        ({"type": "function", "function": {"name": "get_weather"}}, {"get_weather"}),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {
                    "mode": "required",
                    "tools": [{"type": "function", "function": {"name": "get_weather"}}],
                },
            },
            {"get_weather"},
        ),
    ],
    ids=["required", "time", "weather", "allowed"],
)
def test_26535_a_tool_choice_is_kept(client: openai.OpenAI, choice, names, stream) -> None:
    """On a question that has nothing to do with the tools."""
    ask = streamed if stream else chat
    answer = ask(client, tools=[WEATHER, TIME], tool_choice=choice).choices[0]
    (call,) = answer.message.tool_calls
    assert call.function.name in names
    assert isinstance(json.loads(call.function.arguments), dict)
    assert answer.finish_reason == "tool_calls"


def test_tool_choice_none_makes_no_call(client: openai.OpenAI) -> None:
    messages = [{"role": "user", "content": "What is the weather in Paris?"}]
    answer = chat(client, messages=messages, tools=[WEATHER], tool_choice="none").choices[0]
    assert answer.message.tool_calls is None
    assert answer.message.content


def test_an_unknown_tool_is_a_400(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        chat(client, tools=[WEATHER], tool_choice={"type": "function", "function": {"name": "x"}})
    assert caught.value.param == "tool_choice.function.name"


class Answer(pydantic.BaseModel):
    sentence: str
    sure: bool


def test_parse_returns_the_object_that_was_asked_for(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(
        model=MODEL, messages=QUESTION, response_format=Answer, temperature=0, max_tokens=200
    )
    assert isinstance(answer.choices[0].message.parsed, Answer)


@pytest.mark.parametrize("fields", [{"max_tokens": n} for n in (1, 2, 4, 8)] + [{"stop": ["all>"]}])
def test_a_forced_call_that_was_cut_shows_no_marks(client: openai.OpenAI, fields: dict) -> None:
    forced = {"tools": [WEATHER], "tool_choice": "required", **fields}
    choice = chat(client, **forced).choices[0]
    assert choice.message.content is None
    assert choice.finish_reason == ("stop" if "stop" in fields else "length")
    deltas = [chunk.choices[0].delta for chunk in chat(client, stream=True, **forced)]
    assert not any(delta.content for delta in deltas)


def test_a_call_that_was_cut_can_be_sent_back(client: openai.OpenAI) -> None:
    cut = chat(client, tools=[WEATHER], tool_choice="required", max_tokens=13).choices[0].message
    call = cut.tool_calls[0]
    with pytest.raises(json.JSONDecodeError):
        json.loads(call.function.arguments)
    result = {"role": "tool", "tool_call_id": call.id, "content": "that was cut off"}
    answer = chat(client, messages=[*QUESTION, cut, result], tools=[WEATHER])
    assert answer.choices[0].message.content or answer.choices[0].message.tool_calls


PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}


@pytest.mark.parametrize(
    "fields",
    [
        {"json_schema": PERSON},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": PERSON}}},
        {"response_format": {"type": "json_object", "schema": PERSON}},
    ],
    ids=["json_schema", "response_format", "json_object"],
)
def test_a_schema_constrains_a_text_completion(client: openai.OpenAI, fields: dict) -> None:
    for prompt in ("A person: ", [50, 60]):
        choice = client.completions.create(
            model=MODEL, prompt=prompt, max_tokens=200, temperature=0, extra_body=fields
        ).choices[0]
        person = json.loads(choice.text)
        assert (choice.finish_reason, list(person)) == ("stop", ["name", "age"])
        assert isinstance(person["age"], int)


@pytest.mark.parametrize("name", ["json_schema", "response_format"])
def test_a_schema_that_no_grammar_holds_is_a_400_that_names_the_field(
    client: openai.OpenAI, name: str
) -> None:
    schema = {"not": {"type": "string"}}
    form = {"type": "json_schema", "json_schema": {"schema": schema}}
    value = schema if name == "json_schema" else form
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model=MODEL, prompt="a", extra_body={name: value})
    assert caught.value.param == name


def test_a_chat_takes_llama_servers_json_schema(client: openai.OpenAI) -> None:
    answer = chat(client, extra_body={"json_schema": PERSON}, max_tokens=200)
    assert json.loads(answer.choices[0].message.content).keys() == {"name", "age"}


def test_json_object_is_json(client: openai.OpenAI) -> None:
    answer = chat(client, response_format={"type": "json_object"}, max_tokens=200).choices[0]
    if answer.finish_reason == "stop":
        assert isinstance(json.loads(answer.message.content), dict)


def test_a_grammar_is_kept(client: openai.OpenAI) -> None:
    answer = chat(client, extra_body={"grammar": 'root ::= "yes" | "no"'})
    assert answer.choices[0].message.content in {"yes", "no"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"extra_body": {"grammar": 'root ::= "yes'}}, "grammar"),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": {"type": "nope"}},
                }
            },
            "response_format",
        ),
        ({"logit_bias": {10**6: 1}}, "logit_bias"),
        ({"extra_body": {"stop_token_ids": [10**6]}}, "stop_token_ids"),
        ({"messages": [{"role": "user", "content": "word " * 9000}]}, "messages"),
        ({"n": 200}, "n"),
    ],
    ids=["grammar", "schema", "bias", "stop tokens", "long prompt", "n"],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_fault_of_the_client_is_a_400_that_names_the_field(
    client: openai.OpenAI, fields, param, stream
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        chat(client, **fields, stream=stream)
    # a part of the engine may say the field in its message only
    assert param in (caught.value.param or str(caught.value))


def test_leaving_a_stream_ends_its_request(client: openai.OpenAI, served: Served) -> None:
    stream = client.completions.create(
        model=MODEL,
        prompt="Once",
        max_tokens=2000,
        stream=True,
        n=2,
        extra_body={"ignore_eos": True},
    )
    for _ in stream:
        break
    stream.close()
    served.wait_idle()


def test_vectors_of_like_texts_are_close(client: openai.OpenAI) -> None:
    texts = ["What is the capital of France?", "What is the capital of Spain?", "2 + 2"]
    answer = client.embeddings.create(model=MODEL, input=texts)
    a, b, c = (each.embedding for each in answer.data)

    def product(x, y) -> float:
        return sum(i * j for i, j in zip(x, y, strict=True))

    assert product(a, a) == pytest.approx(1, abs=1e-3)
    assert product(a, b) > product(a, c)
    assert answer.usage.prompt_tokens > 0


def test_floats_base64_and_tokens_give_the_same_vector(client: openai.OpenAI) -> None:
    text = "Once upon a time"
    tokens = client.post("../tokenize", body={"content": text}, cast_to=object)["tokens"]
    vectors = [
        client.embeddings.create(model=MODEL, **fields).data[0].embedding
        for fields in (
            {"input": text},
            {"input": text, "encoding_format": "float"},
            {"input": tokens},
        )
    ]
    assert vectors[0] == pytest.approx(vectors[1], abs=1e-5)
    assert vectors[0] == pytest.approx(vectors[2], abs=1e-2)


def test_over_long_input_is_a_400(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model=MODEL, input="word " * 9000)
    assert caught.value.code == "context_length_exceeded"


def test_a_model_that_is_no_reranker_says_so(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="reranker"):
        client.post("/rerank", body={"query": "a", "documents": ["b"]}, cast_to=object)
