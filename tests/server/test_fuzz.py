"""Hostile bodies: whatever comes in, the answer is 2xx or 4xx, and a request that can be sent on."""

from __future__ import annotations

import copy
import json
import random

import pytest

from shimmy.engine.types.frame import Detokenize, Embed, Rerank, Submit, encode_frame
from shimmy.errors import InvalidRequestError
from shimmy.server.dialects import (
    embeddings,
    infill,
    native,
    openai_chat,
    openai_completions,
    rerank,
    tokens,
)
from shimmy.server.dialects.chat_body import ChatBody
from shimmy.server.dialects.completion_request import CompletionBody
from tests.support.pictures import PNG, url_of

VALUES = [
    None, True, False, 0, 1, -1, 2**31, 2**32, 2**63, 2**64, -(2**63) - 1, 10**400, 0.5, -0.0,
    1e308, -1e308, "", "x", "\x00", "\ud83d\ude00", "é" * 1000, [], [[]], [None], ["a", 1], {},
    {"": None}, {"type": "text"}, {"type": "json_object"}, {"type": "function"}, {"1": False},
    {"1": -100}, {"role": "user", "content": "x"}, [{"role": "user", "content": "x"}],
    [{"type": "function", "function": {"name": "f"}}], "auto", "required", {"a": 10**30},
]  # fmt: skip

IMAGE = {"type": "image_url", "image_url": {"url": url_of(PNG), "detail": "low"}}

SEEDS = {
    openai_chat: {
        "model": "tiny",
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": [{"type": "text", "text": "Hi"}, IMAGE]},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
                ],
            },
            {"role": "tool", "tool_call_id": "1", "content": "x"},
        ],
        "tools": [
            {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
        ],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "logprobs": True,
        "top_logprobs": 2,
        "n": 2,
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}},
        "chat_template_kwargs": {"a": 1},
        "logit_bias": {"1": 2},
        "stop": ["a"],
        "stream_options": {"include_usage": True},
    },
    openai_completions: {
        "model": "tiny",
        "prompt": [[1, 2], "a"],
        "logit_bias": {"1": 2},
        "best_of": 2,
        "echo": True,
        "n": 1,
        "stop": "a",
        "stop_token_ids": [1],
    },
    native: {"messages": [{"role": "user", "content": "Hi"}], "stream": False},
    infill: {"input_prefix": "a", "input_suffix": "b", "input_extra": [{"text": "c"}]},
}
FIELDS = {
    openai_chat: ChatBody.__struct_fields__,
    openai_completions: CompletionBody.__struct_fields__,
    native: native.NativeBody.__struct_fields__,
    infill: infill.InfillBody.__struct_fields__,
}


def places(value, path=()):
    """Yield the paths of everything within `value`."""
    yield path
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, inner in items:
        yield from places(inner, (*path, key))


def mutate(body: dict, fields: tuple[str, ...], rng: random.Random) -> object:
    body = json.loads(json.dumps(body))
    for _ in range(rng.randint(1, 2)):
        if rng.random() < 0.5:
            body[rng.choice(fields)] = copy.deepcopy(rng.choice(VALUES))
            continue
        path = rng.choice(list(places(body)))
        if not path:
            continue
        target = body
        for key in path[:-1]:
            target = target[key]
        if rng.random() < 0.2 and isinstance(target, dict):
            del target[path[-1]]
        else:
            target[path[-1]] = copy.deepcopy(rng.choice(VALUES))
    return body


@pytest.mark.parametrize("dialect", SEEDS, ids=lambda module: module.__name__.rpartition(".")[2])
def test_a_mutated_body_is_refused_or_can_be_sent_to_a_worker(dialect):
    rng = random.Random(11)
    accepted = 0
    for _ in range(2500):
        raw = json.dumps(mutate(SEEDS[dialect], FIELDS[dialect], rng)).encode()
        if rng.random() < 0.1:
            at = rng.randrange(len(raw))
            raw = raw[:at] + bytes([rng.randrange(256)]) + raw[at + 1 :]
        try:
            call = dialect.parse(raw)
            call.request.check()
        except InvalidRequestError:
            continue
        for request in (call.request, *call.more):
            encode_frame(Submit(id=1, request=request))
        accepted += 1
    assert accepted > 120


QUESTIONS = {
    "embeddings": (
        embeddings.parse,
        {"input": ["a", [1, 2]], "encoding_format": "base64", "dimensions": 3},
        lambda call: Embed(1, call.inputs),
    ),
    "rerank": (
        rerank.parse,
        {"query": "a", "documents": ["b", {"text": "c"}], "top_n": 1, "return_documents": True},
        lambda call: Rerank(1, call.query, call.documents),
    ),
    "detokenize": (
        tokens.parse_detokenize,
        {"tokens": [1, 2, 3]},
        lambda body: Detokenize(1, body.tokens),
    ),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_mutated_question_is_refused_or_can_be_sent_to_a_worker(name):
    parse, seed, command = QUESTIONS[name]
    rng = random.Random(12)
    accepted = 0
    for _ in range(1000):
        raw = json.dumps(mutate(seed, tuple(seed), rng)).encode()
        try:
            call = parse(raw)
        except InvalidRequestError:
            continue
        encode_frame(command(call))
        accepted += 1
    assert accepted > 20
