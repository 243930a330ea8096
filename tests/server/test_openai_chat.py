"""Answers of /v1/chat/completions: events to bytes."""

from __future__ import annotations

import json

from shimmy.engine.types.event import Delta, ToolCallDelta
from shimmy.engine.types.prompt import ChatPrompt, Tool, ToolCall
from shimmy.engine.types.request import GenerateRequest
from shimmy.server.dialects import openai_chat as chat
from shimmy.server.dialects.types import Call, Head, Output
from shimmy.server.errors import Problem
from tests.server.fakes import finished

HEAD = Head(id="chatcmpl-1", created=1700000000, model="tiny")


def _call(include_usage: bool, tools: tuple[Tool, ...] = ()) -> Call:
    request = GenerateRequest(prompt=ChatPrompt(messages=[], tools=list(tools)))
    return Call(
        model=None,
        prompt_field="messages",
        request=request,
        stream=True,
        include_usage=include_usage,
    )


def stream(*, include_usage: bool = False) -> chat.ChatStream:
    return chat.stream(_call(include_usage), HEAD)


GOLDEN = b"""\
data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"tiny",\
"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}

data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"tiny",\
"choices":[{"index":0,"delta":{"content":"A \\"b\\"\\n\\r\xc3\xa9 [DONE]"},"finish_reason":null}]}

data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"tiny",\
"choices":[{"index":0,"delta":{},"finish_reason":"length"}],"timings":{"cache_n":2,"queue_ms":0.5,\
"prompt_n":3,"prompt_ms":10.0,"prompt_per_second":300.0,"predicted_n":3,"predicted_ms":20.0,\
"predicted_per_second":150.0}}

data: [DONE]

"""

GOLDEN_USAGE = b"""\
data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"tiny",\
"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null}

data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"tiny",\
"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"timings":{"cache_n":2,"queue_ms":0.5,\
"prompt_n":3,"prompt_ms":10.0,"prompt_per_second":300.0,"predicted_n":3,"predicted_ms":20.0,\
"predicted_per_second":150.0},"usage":null}

data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"tiny",\
"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":3,"total_tokens":8,\
"prompt_tokens_details":{"cached_tokens":2},\
"completion_tokens_details":{"reasoning_tokens":0}}}

data: [DONE]

"""

GOLDEN_TOOLS = b"""\
data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"tiny",\
"choices":[{"index":0,"delta":{"reasoning_content":"hm"},"finish_reason":null}]}

data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"tiny",\
"choices":[{"index":0,"delta":{"content":"Let me see."},"finish_reason":null}]}

data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"tiny",\
"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c1","type":"function",\
"function":{"name":"f","arguments":""}}]},"finish_reason":null}]}

data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"tiny",\
"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]},\
"finish_reason":null}]}

data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"tiny",\
"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"call_1_1","type":"function",\
"function":{"name":"g","arguments":"{}"}}]},"finish_reason":null}]}

"""

TOOL_DELTAS = [
    Delta(
        reasoning="hm",
        text="Let me see.",
        tool_calls=[ToolCallDelta(index=0, call=ToolCall(id="c1", name="f"))],
    ),
    Delta(
        tool_calls=[
            ToolCallDelta(index=0, call=ToolCall(arguments="{}")),
            ToolCallDelta(index=1, call=ToolCall(name="g", arguments="{}")),
        ]
    ),
]


def test_the_stream_is_byte_for_byte_this():
    encoder = stream()
    text = Delta(text='A "b"\n\ré [DONE]')
    end = finished("length", cached=2)
    assert encoder.opening() + encoder.delta(text) + encoder.finish(end) == GOLDEN


def test_with_usage_every_other_chunk_has_a_null_one():
    encoder = stream(include_usage=True)
    assert encoder.opening() + encoder.finish(finished(cached=2)) == GOLDEN_USAGE


def test_id_type_and_name_come_once_per_call():
    encoder = stream()
    assert b"".join(encoder.delta(delta) for delta in TOOL_DELTAS) == GOLDEN_TOOLS


def test_held_back_tokens_send_nothing():
    assert stream().delta(Delta(text="", n_tokens=3)) == b""


def test_an_error_in_the_stream_ends_it_without_done():
    problem = Problem(status=503, type="unavailable_error", code="engine_dead", message="died")
    assert stream().error(problem) == (
        b'data: {"error":{"message":"died","type":"unavailable_error","param":null,'
        b'"code":"engine_dead"}}\n\n'
    )


def whole(*deltas: Delta, reason="stop", tools=()) -> dict:
    output = Output()
    for delta in deltas:
        output.add(delta)
    output.finish(finished(reason, cached=2))
    return json.loads(chat.encode(_call(False, tools), HEAD, output))


def test_the_answer_in_one_piece():
    assert whole(Delta(text="Hel"), Delta(text="lo")) == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "tiny",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello"},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 5,
            "completion_tokens": 3,
            "total_tokens": 8,
            "prompt_tokens_details": {"cached_tokens": 2},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
        "timings": {
            "cache_n": 2,
            "queue_ms": 0.5,
            "prompt_n": 3,
            "prompt_ms": 10.0,
            "prompt_per_second": 300.0,
            "predicted_n": 3,
            "predicted_ms": 20.0,
            "predicted_per_second": 150.0,
        },
    }


def test_calls_in_one_piece():
    choice = whole(*TOOL_DELTAS, reason="tool_calls")["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "content": "Let me see.",
        "reasoning_content": "hm",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
            {"id": "call_1_1", "type": "function", "function": {"name": "g", "arguments": "{}"}},
        ],
    }


def test_content_without_text_is_null_only_where_there_may_be_calls():
    assert whole()["choices"][0]["message"]["content"] == ""
    tools = (Tool(name="f"),)
    assert whole(TOOL_DELTAS[1], tools=tools)["choices"][0]["message"]["content"] is None
    opening = chat.stream(_call(False, tools), HEAD).opening()
    assert b'"delta":{"role":"assistant","content":null}' in opening


def test_ids_differ():
    assert chat.new_id() != chat.new_id()
    assert chat.new_id().startswith("chatcmpl-")
