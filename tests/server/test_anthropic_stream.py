"""Answers of /v1/messages: events to bytes, and the rules of the order of blocks."""

from __future__ import annotations

import json

import jiter
import pytest

from shimmy.engine.types.event import Delta, ToolCallDelta, Usage
from shimmy.engine.types.prompt import ChatPrompt, ToolCall
from shimmy.engine.types.request import GenerateRequest
from shimmy.errors import ShimmyError
from shimmy.server.dialects import anthropic
from shimmy.server.dialects.partial_json import whole_part
from shimmy.server.dialects.types import Call, Head, Output
from shimmy.server.errors import Problem
from tests.server.fakes import finished

HEAD = Head(id="msg_1", created=1700000000, model="tiny", prompt_tokens=5)


def call_of(stop=("END",), max_tokens=9) -> Call:
    request = GenerateRequest(
        prompt=ChatPrompt(messages=[]), stop=list(stop), max_tokens=max_tokens
    )
    return Call(model="tiny", prompt_field="messages", request=request, stream=True)


def call(index: int, **fields) -> ToolCallDelta:
    return ToolCallDelta(index=index, call=ToolCall(**fields))


TOOLS = [
    Delta(reasoning="hm "),
    Delta(reasoning="so", text="Let me see."),
    Delta(tool_calls=[call(0, id="toolu_a", name="f")]),
    Delta(tool_calls=[call(0, arguments='{"a":'), call(0, arguments="1}"), call(1, name="g")]),
]

GOLDEN = b"""\
event: message_start
data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant",\
"model":"tiny","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":5,\
"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":0}}}

event: ping
data: {"type":"ping"}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta",\
"text":"A \\"b\\"\\n\\r\xc3\xa9"}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" c"}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},\
"usage":{"input_tokens":3,"cache_creation_input_tokens":0,"cache_read_input_tokens":2,\
"output_tokens":3}}

event: message_stop
data: {"type":"message_stop"}

"""

GOLDEN_TOOLS = b"""\
event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"",\
"signature":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm "}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"so"}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"signature_delta",\
"signature":"shimmy"}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: content_block_start
data: {"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"Let me see."}}

event: content_block_stop
data: {"type":"content_block_stop","index":1}

event: content_block_start
data: {"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"toolu_a",\
"name":"f","input":{}}}

event: content_block_delta
data: {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta",\
"partial_json":"{\\"a\\":"}}

event: content_block_delta
data: {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta",\
"partial_json":"1}"}}

event: content_block_stop
data: {"type":"content_block_stop","index":2}

event: content_block_start
data: {"type":"content_block_start","index":3,"content_block":{"type":"tool_use",\
"id":"toolu_1_1","name":"g","input":{}}}

event: content_block_stop
data: {"type":"content_block_stop","index":3}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},\
"usage":{"input_tokens":5,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,\
"output_tokens":3}}

event: message_stop
data: {"type":"message_stop"}

"""


def streamed(deltas, end=None, **fields) -> bytes:
    encoder = anthropic.stream(call_of(**fields), HEAD)
    parts = [encoder.opening(), *map(encoder.delta, deltas), encoder.finish(end or finished())]
    return b"".join(parts)


def events(stream: bytes) -> list[dict]:
    found = []
    for block in stream.decode().removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        body = json.loads(data.removeprefix("data: "))
        assert name == f"event: {body['type']}"
        found.append(body)
    return found


def whole(deltas, end=None, **fields) -> dict:
    output = Output()
    for delta in deltas:
        output.add(delta)
    output.choices[0].finished = end or finished()
    return json.loads(anthropic.encode(call_of(**fields), HEAD, output))


def assembled(stream: bytes) -> dict:
    """Put a stream together as SDKs do."""
    message, buffers = {}, {}
    for event in events(stream):
        match event["type"]:
            case "message_start":
                message = event["message"]
            case "content_block_start":
                assert event["index"] == len(message["content"])
                message["content"].append(event["content_block"])
            case "content_block_delta":
                block, delta = message["content"][event["index"]], event["delta"]
                if delta["type"] == "input_json_delta":
                    text = buffers.get(event["index"], "") + delta["partial_json"]
                    buffers[event["index"]] = text
                    block["input"] = jiter.from_json(text.encode(), partial_mode=True)
                elif delta["type"] == "signature_delta":
                    block["signature"] = delta["signature"]
                else:
                    key = delta["type"].removesuffix("_delta")
                    block[key] += delta[key]
            case "message_delta":
                message |= event["delta"]
                message["usage"] |= event["usage"]
    return message


def test_the_stream_is_byte_for_byte_this():
    deltas = [Delta(text='A "b"\n\ré'), Delta(text="", n_tokens=2), Delta(text=" c")]
    assert streamed(deltas, finished(cached=2)) == GOLDEN


def test_thinking_text_and_calls_are_byte_for_byte_this():
    stream = streamed(TOOLS, finished("tool_calls"))
    assert stream.endswith(GOLDEN_TOOLS)
    assert stream.count(b"\n\n") == GOLDEN_TOOLS.count(b"\n\n") + 2


MIXED = {
    "text": [Delta(text="Hel"), Delta(text="lo")],
    "nothing": [],
    "held back": [Delta(text="", n_tokens=3)],
    "thinking only": [Delta(reasoning="hm")],
    "thinking, text and calls": TOOLS,
    "text after a call": [*TOOLS, Delta(text="Done.")],
    "thinking twice": [Delta(reasoning="a"), Delta(text="b"), Delta(reasoning="c")],
    "a call cut off": [Delta(tool_calls=[call(0, id="x", name="f", arguments='{"a":[1,{"b":"c')])],
    "a call without arguments": [Delta(tool_calls=[call(0, id="x", name="f")])],
}


@pytest.mark.parametrize("deltas", MIXED.values(), ids=MIXED)
@pytest.mark.parametrize("reason", ["stop", "length", "tool_calls"])
def test_streaming_equals_non_streaming(deltas, reason):
    end = finished(reason, cached=2)
    assert assembled(streamed(deltas, end)) == whole(deltas, end)


@pytest.mark.parametrize("deltas", MIXED.values(), ids=MIXED)
def test_rule_event_names(deltas):
    assert events(streamed(deltas))


@pytest.mark.parametrize("deltas", MIXED.values(), ids=MIXED)
def test_rule_message_start_first_with_usage(deltas):
    first = events(streamed(deltas))[0]
    assert first["type"] == "message_start"
    assert first["message"]["usage"]["input_tokens"] == 5
    assert first["message"]["usage"]["output_tokens"] == 0


@pytest.mark.parametrize("deltas", MIXED.values(), ids=MIXED)
def test_rule_blocks_sequential_start_before_delta_indexes_contiguous(deltas):
    opened, n = None, 0
    for event in events(streamed(deltas)):
        if event["type"] == "content_block_start":
            assert opened is None
            assert event["index"] == n
            opened, n = event["index"], n + 1
        elif event["type"] == "content_block_delta":
            assert event["index"] == opened
        elif event["type"] == "content_block_stop":
            assert event["index"] == opened
            opened = None
    assert opened is None
    assert n > 0


@pytest.mark.parametrize("deltas", MIXED.values(), ids=MIXED)
def test_rule_message_delta_usage_present_and_message_stop_last(deltas):
    *_, ending, last = events(streamed(deltas))
    assert ending["type"] == "message_delta"
    assert ending["usage"]["output_tokens"] == 3
    assert last == {"type": "message_stop"}


def test_rule_tool_use_starts_with_an_empty_input():
    deltas = MIXED["a call without arguments"]
    starts = [e for e in events(streamed(deltas)) if e["type"] == "content_block_start"]
    assert starts[0]["content_block"]["input"] == {}
    assert whole(deltas)["content"][0]["input"] == {}


def test_rule_signature_delta_is_last_in_a_thinking_block():
    deltas = [e["delta"]["type"] for e in events(streamed(TOOLS)) if "index" in e and "delta" in e]
    assert deltas[:3] == ["thinking_delta", "thinking_delta", "signature_delta"]


ENDS = {
    "end_turn": finished("stop"),
    "tool_use": finished("tool_calls"),
    "max_tokens": finished("length", completion=9),
    "model_context_window_exceeded": finished("length", completion=4),
    "stop_sequence": finished("stop", stop="END"),
}


@pytest.mark.parametrize("reason", ENDS)
def test_rule_stop_reason(reason):
    message = whole([Delta(text="x")], ENDS[reason])
    assert message["stop_reason"] == reason
    assert message["stop_sequence"] == ("END" if reason == "stop_sequence" else None)


def test_a_stop_of_the_template_is_the_end_of_the_turn():
    message = whole([Delta(text="x")], finished("stop", stop="<|im_end|>"))
    assert (message["stop_reason"], message["stop_sequence"]) == ("end_turn", None)


def test_usage_counts_cached_and_thinking_tokens_apart():
    usage = Usage(prompt_tokens=9, completion_tokens=7, cached_tokens=4, reasoning_tokens=6)
    end = finished()
    end = type(end)(reason="stop", usage=usage, timings=end.timings)
    assert whole([], end)["usage"] == {
        "input_tokens": 5,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 4,
        "output_tokens": 7,
        "output_tokens_details": {"thinking_tokens": 6},
    }


def test_going_back_to_an_earlier_call_is_refused_rather_than_sent_out_of_order():
    encoder = anthropic.stream(call_of(), HEAD)
    encoder.delta(Delta(tool_calls=[call(0, name="f"), call(1, name="g")]))
    with pytest.raises(ShimmyError, match="earlier"):
        encoder.delta(Delta(tool_calls=[call(0, arguments="{}")]))


def test_an_error_in_the_stream_is_an_event_with_the_same_body():
    problem = Problem(
        status=503, type="unavailable_error", code="x", message="died", request_id="req_1"
    )
    body = anthropic.error_body(problem)
    assert body == (
        b'{"type":"error","error":{"type":"overloaded_error","message":"died"},'
        b'"request_id":"req_1"}'
    )
    stream = anthropic.stream(call_of(), HEAD)
    assert stream.error(problem) == b"event: error\ndata: " + body + b"\n\n"


JSON = '{"a":[1,{"b":"c\\"}"},[]],"d":{"e":null,"f":"\\u00e9"},"g":12.5,"h":true}'


@pytest.mark.parametrize("at", range(len(JSON) + 1))
def test_a_cut_call_has_the_arguments_that_sdks_make_of_it(at):
    text = JSON[:at]
    theirs = jiter.from_json(text.encode(), partial_mode=True) if text else {}
    assert whole_part(text) == theirs


@pytest.mark.parametrize("text", ["", "x", "}", "{{{", "{,,,,", '{"a"', "[" * 2000, "{" * 50 + ","])
def test_what_is_no_json_makes_no_trouble(text):
    assert whole_part(text) is not None
