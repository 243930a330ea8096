"""Hostile bodies for /v1/messages and /v1/responses: 2xx or 4xx, and what passes can be sent on."""

from __future__ import annotations

import json
import random

import msgspec
import pytest

from shimmy.engine.types.frame import Render, Submit, encode_frame
from shimmy.errors import InvalidRequestError
from shimmy.server.dialects import anthropic
from shimmy.server.dialects.anthropic.request import MessagesBody
from shimmy.server.dialects.output import Output
from shimmy.server.dialects.responses.body import ResponsesBody
from shimmy.server.dialects.types import Head
from shimmy.server.response_store import ResponseStore
from shimmy.server.responses import Responses
from tests.server.fakes import finished
from tests.server.test_fuzz import mutate
from tests.support.pictures import PNG, base64_of, url_of

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
IMAGE = {"type": "base64", "media_type": "image/png", "data": base64_of(PNG)}
SEEN = {"type": "input_image", "image_url": url_of(PNG), "detail": "auto"}
MESSAGES = {
    "model": "tiny",
    "max_tokens": 9,
    "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "text", "text": "Let me"},
                {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t", "content": "x", "is_error": True},
                {"type": "image", "source": IMAGE},
                {"type": "text", "text": "Well?"},
            ],
        },
    ],
    "tools": [{"name": "f", "input_schema": SCHEMA}],
    "tool_choice": {"type": "tool", "name": "f"},
    "thinking": {"type": "enabled", "budget_tokens": 4},
    "output_config": {"effort": "low"},
    "stop_sequences": ["a"],
}
RESPONSES = {
    "model": "tiny",
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "Hi"}, SEEN]},
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "h"}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "x"},
    ],
    "instructions": "Be brief.",
    "tools": [{"type": "function", "name": "f", "parameters": SCHEMA}],
    "tool_choice": {"type": "function", "name": "f"},
    "text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}},
    "reasoning": {"effort": "low"},
    "include": ["message.output_text.logprobs"],
    "metadata": {"a": "b"},
    "max_output_tokens": 9,
}
CASES = {
    "messages": (lambda: anthropic, MESSAGES, MessagesBody, "msg_1"),
    "responses": (lambda: Responses(ResponseStore()), RESPONSES, ResponsesBody, "resp_1"),
}


def mutated(body: dict, fields: tuple[str, ...], rng: random.Random) -> bytes:
    raw = json.dumps(mutate(body, fields, rng)).encode()
    if rng.random() < 0.1:
        at = rng.randrange(len(raw))
        raw = raw[:at] + bytes([rng.randrange(256)]) + raw[at + 1 :]
    return raw


@pytest.mark.parametrize("name", CASES)
def test_a_mutated_body_is_refused_or_can_be_sent_to_a_worker_and_answered(name):
    make, body, struct, answer_id = CASES[name]
    dialect = make()
    rng = random.Random(7)
    head = Head(id=answer_id, created=1, model="tiny")
    accepted = 0
    for _ in range(2500):
        raw = mutated(body, struct.__struct_fields__, rng)
        try:
            call = dialect.parse(raw)
            call.request.check()
        except InvalidRequestError:
            continue
        encode_frame(Submit(id=1, request=call.request))
        output = Output()
        output.finish(finished())
        msgspec.json.decode(dialect.encode(call, head, output))
        stream = dialect.stream(call, head)
        assert stream.opening() + stream.finish(finished())
        accepted += 1
    assert accepted > 120


@pytest.mark.parametrize("name", CASES)
def test_a_mutated_body_to_count_is_refused_or_can_be_sent_to_a_worker(name):
    make, body, struct, _ = CASES[name]
    dialect = make()
    rng = random.Random(8)
    accepted = 0
    for _ in range(1000):
        try:
            _, prompt = dialect.parse_count(mutated(body, struct.__struct_fields__, rng))
        except InvalidRequestError:
            continue
        encode_frame(Render(id=1, prompt=prompt))
        accepted += 1
    assert accepted > 50
