"""The native dialect by itself."""

from __future__ import annotations

import json

import msgspec
import pytest

from shimmy.engine.types.event import Delta
from shimmy.engine.types.prompt import ChatPrompt, Message, TextPrompt
from shimmy.engine.types.sampling import SamplingParams
from shimmy.errors import InvalidRequestError
from shimmy.server.dialects import native
from shimmy.server.dialects.types import Call, Head, Output
from tests.server.fakes import finished

HEAD = Head(id="gen-1", created=1700000000, model="tiny")
USER = {"role": "user", "content": "Hi"}


def parse(**fields: object) -> Call:
    return native.parse(msgspec.json.encode(fields))


def test_it_streams_unless_told_otherwise():
    assert parse(prompt="x").stream
    assert parse(prompt="x", stream=None).stream
    assert not parse(prompt="x", stream=False).stream


def test_a_prompt_is_raw_and_limited():
    request = parse(prompt="Once").request
    assert (request.prompt, request.max_tokens) == (TextPrompt("Once"), 256)


def test_messages_go_through_the_template_after_system():
    assert parse(messages=[USER], system="Be brief").request.prompt == ChatPrompt(
        messages=[Message(role="system", content="Be brief"), Message(role="user", content="Hi")]
    )


def test_the_rust_fields_and_more():
    request = parse(
        model="m", prompt="x", temperature=0.5, top_p=0.5, top_k=3, max_tokens=7, stop="\n", seed=1
    ).request
    assert request.sampling == SamplingParams(temperature=0.5, top_p=0.5, top_k=3, seed=1)
    assert (request.max_tokens, request.stop) == (7, ["\n"])


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({}, "prompt", "invalid_prompt"),
        ({"prompt": "x", "messages": [USER]}, "prompt", "invalid_prompt"),
        ({"prompt": "x", "system": "s"}, "system", "invalid_value"),
        ({"messages": []}, "messages", "invalid_messages"),
        ({"prompt": ["x"]}, "prompt", "invalid_type"),
        ({"prompt": "x", "max_tokens": 0}, "max_tokens", "invalid_max_tokens"),
    ],
)
def test_bodies_that_make_no_sense(fields, param, code):
    with pytest.raises(InvalidRequestError) as caught:
        parse(**fields)
    assert (caught.value.param, caught.value.code) == (param, code)


GOLDEN = b"""\
data: {"response":"two\\nlines [DONE]"}

data: {"response":"","done":true,"id":"gen-1","model":"tiny","created":1700000000,\
"finish_reason":"stop","usage":{"prompt_tokens":5,"completion_tokens":3,"total_tokens":8,\
"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}},\
"timings":{"cache_n":0,"queue_ms":0.5,"prompt_n":5,\
"prompt_ms":10.0,"prompt_per_second":500.0,"predicted_n":3,"predicted_ms":20.0,\
"predicted_per_second":150.0}}

data: [DONE]

"""


def test_the_stream_is_byte_for_byte_this():
    encoder = native.stream(parse(prompt="x"), HEAD)
    parts = [
        encoder.opening(),
        encoder.delta(Delta(text="two\nlines [DONE]")),
        encoder.delta(Delta(text="")),
        encoder.finish(finished()),
    ]
    assert b"".join(parts) == GOLDEN


def test_the_answer_in_one_piece_keeps_the_wire_name():
    output = Output()
    output.add(Delta(text="Hello"))
    output.finish(finished())
    body = json.loads(native.encode(parse(prompt="x"), HEAD, output))
    assert body["response"] == "Hello"
    assert (body["done"], body["finish_reason"], body["model"]) == (True, "stop", "tiny")
