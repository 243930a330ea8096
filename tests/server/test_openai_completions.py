"""The completions dialect by itself."""

from __future__ import annotations

import json

import msgspec
import pytest

from shimmy.engine.types.event import Delta
from shimmy.engine.types.prompt import TextPrompt, TokenPrompt
from shimmy.errors import InvalidRequestError
from shimmy.server.dialects import openai_completions as completions
from shimmy.server.dialects.types import Call, Head, Output
from tests.server.fakes import finished

HEAD = Head(id="cmpl-1", created=1700000000, model="tiny")


def parse(**fields: object) -> Call:
    return completions.parse(msgspec.json.encode({"prompt": "Once", **fields}))


def refused(**fields: object) -> tuple[str | None, str]:
    with pytest.raises(InvalidRequestError) as caught:
        parse(**fields)
    return caught.value.param, caught.value.code


def test_defaults_are_openais():
    call = parse()
    assert (call.model, call.stream, call.include_usage) == (None, False, False)
    assert call.request.max_tokens == 16
    assert call.request.prompt == TextPrompt("Once")


@pytest.mark.parametrize(
    ("prompt", "engine"),
    [
        ("Once", TextPrompt("Once")),
        ("", TextPrompt("")),
        (["Once"], TextPrompt("Once")),
        ([1, 2, 3], TokenPrompt([1, 2, 3])),
        ([[1, 2, 3]], TokenPrompt([1, 2, 3])),
    ],
)
def test_prompts(prompt, engine):
    assert parse(prompt=prompt).request.prompt == engine


@pytest.mark.parametrize(
    ("prompt", "param", "code"),
    [
        (None, "prompt", "invalid_prompt"),
        ([], "prompt", "invalid_prompt"),
        ([[]], "prompt[0]", "invalid_prompt"),
        (["a", []], "prompt[1]", "invalid_prompt"),
        (["a"] * 257, "prompt", "invalid_value"),
        ([1, "a"], "prompt[1]", "invalid_prompt"),
        ([1, True], "prompt[1]", "invalid_type"),
        ([1, -1], "prompt[1]", "invalid_prompt"),
        ([1.5], "prompt[0]", "invalid_type"),
        ([2**31], "prompt[0]", "invalid_prompt"),
        (5, "prompt", "invalid_type"),
        ({"a": 1}, "prompt", "invalid_type"),
    ],
)
def test_prompts_that_cannot_be(prompt, param, code):
    assert refused(prompt=prompt) == (param, code)


def test_a_missing_prompt():
    with pytest.raises(InvalidRequestError) as caught:
        completions.parse(b"{}")
    assert (caught.value.param, caught.value.code) == ("prompt", "invalid_prompt")


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("fields", "schema", "name"),
    [
        ({"json_schema": SCHEMA}, SCHEMA, "json_schema"),
        ({"json_schema": {}}, {}, "json_schema"),
        ({"response_format": {"type": "json_object"}}, {"type": "object"}, "response_format"),
        ({"response_format": {"type": "json_object", "schema": SCHEMA}}, SCHEMA, "response_format"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}},
            SCHEMA,
            "response_format",
        ),
    ],
)
def test_a_schema_constrains_the_text(fields, schema, name):
    call = parse(**fields)
    assert call.request.sampling.json_schema == schema
    assert call.names.get("json_schema", "json_schema") == name


@pytest.mark.parametrize("name", ["grammar", "json_schema"])
def test_one_field_constrains_the_text(name):
    value = 'root ::= "a"' if name == "grammar" else SCHEMA
    assert refused(**{name: value}, response_format={"type": "json_object"})[0] == name


def test_grammar_and_schema_exclude_each_other():
    assert refused(grammar='root ::= "a"', json_schema=SCHEMA)[0] == "grammar"


def test_a_format_without_its_schema():
    path = "response_format.json_schema.schema"
    assert refused(response_format={"type": "json_schema"})[0] == path


@pytest.mark.parametrize(
    ("name", "value"),
    [("n", 1), ("best_of", 1), ("logprobs", None), ("echo", False), ("suffix", ""), ("user", "me"),
     ("response_format", {"type": "text"}), ("unknown", 1)],
)  # fmt: skip
def test_what_changes_nothing_is_accepted(name, value):
    assert parse(**{name: value}) == parse()


def test_n_predict_is_llama_servers_name_for_the_limit():
    assert parse(n_predict=5).request.max_tokens == 5
    assert parse(n_predict=5, max_tokens=3).request.max_tokens == 3
    unlimited = parse(n_predict=-1)
    assert (unlimited.request.max_tokens, unlimited.default_limit) == (None, False)
    assert refused(n_predict=-2) == ("n_predict", "invalid_max_tokens")


def test_no_tokens_may_be_asked_for():
    assert parse(max_tokens=0).request.max_tokens == 0
    assert refused(max_tokens=-1) == ("max_tokens", "invalid_max_tokens")


GOLDEN = b"""\
data: {"id":"cmpl-1","object":"text_completion","created":1700000000,"model":"tiny",\
"choices":[{"text":" upon\\n","index":0,"logprobs":null,"finish_reason":null}]}

data: {"id":"cmpl-1","object":"text_completion","created":1700000000,"model":"tiny",\
"choices":[{"text":"","index":0,"logprobs":null,"finish_reason":"length"}],\
"timings":{"cache_n":0,"queue_ms":0.5,"prompt_n":5,"prompt_ms":10.0,"prompt_per_second":500.0,\
"predicted_n":3,"predicted_ms":20.0,"predicted_per_second":150.0}}

data: [DONE]

"""

GOLDEN_USAGE = b"""\
data: {"id":"cmpl-1","object":"text_completion","created":1700000000,"model":"tiny",\
"choices":[{"text":"a","index":0,"logprobs":null,"finish_reason":null}],"usage":null}

data: {"id":"cmpl-1","object":"text_completion","created":1700000000,"model":"tiny",\
"choices":[{"text":"","index":0,"logprobs":null,"finish_reason":"stop"}],\
"timings":{"cache_n":0,"queue_ms":0.5,"prompt_n":5,"prompt_ms":10.0,"prompt_per_second":500.0,\
"predicted_n":3,"predicted_ms":20.0,"predicted_per_second":150.0},"usage":null}

data: {"id":"cmpl-1","object":"text_completion","created":1700000000,"model":"tiny",\
"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":3,"total_tokens":8,\
"prompt_tokens_details":{"cached_tokens":0},\
"completion_tokens_details":{"reasoning_tokens":0}}}

data: [DONE]

"""


def test_the_stream_is_byte_for_byte_this():
    encoder = completions.stream(parse(stream=True), HEAD)
    parts = [
        encoder.opening(),
        encoder.delta(Delta(text=" upon\n")),
        encoder.delta(Delta(text="")),
        encoder.finish(finished("length")),
    ]
    assert b"".join(parts) == GOLDEN


def test_with_usage_every_other_object_has_a_null_one():
    encoder = completions.stream(parse(stream_options={"include_usage": True}), HEAD)
    assert encoder.delta(Delta(text="a")) + encoder.finish(finished()) == GOLDEN_USAGE


def test_the_answer_in_one_piece():
    output = Output()
    output.add(Delta(text=" upon"))
    output.finish(finished("length"))
    body = json.loads(completions.encode(parse(), HEAD, output))
    assert (body["id"], body["object"], body["model"]) == ("cmpl-1", "text_completion", "tiny")
    assert body["choices"] == [
        {"text": " upon", "index": 0, "logprobs": None, "finish_reason": "length"}
    ]
    assert body["usage"]["total_tokens"] == 8
