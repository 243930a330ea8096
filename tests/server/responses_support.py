"""Requests and answers of /v1/responses, for the tests of its streams."""

from __future__ import annotations

import json

from shimmy.engine.types.event import Delta, ToolCallDelta
from shimmy.engine.types.prompt import ToolCall
from shimmy.server.dialects.types import Call, Head, Output
from shimmy.server.response_store import ResponseStore
from shimmy.server.responses import Responses
from tests.server.fakes import finished

HEAD = Head(id="resp_1", created=1700000000, model="tiny", prompt_tokens=5)


def call(index: int, **fields) -> ToolCallDelta:
    return ToolCallDelta(index=index, call=ToolCall(**fields))


CALLS = [
    Delta(reasoning="hm"),
    Delta(tool_calls=[call(0, name="f")]),
    Delta(tool_calls=[call(0, arguments='{"a":'), call(0, arguments="1}")]),
]


def asked(dialect: Responses, **fields) -> Call:
    body = {
        "input": "Hi",
        "instructions": "Be brief.",
        "max_output_tokens": 9,
        "temperature": 0.5,
        "stream": True,
        **fields,
    }
    return dialect.parse(json.dumps(body).encode())


def streamed(deltas, end=None, *, kept_in=None, **fields) -> bytes:
    dialect = Responses(ResponseStore() if kept_in is None else kept_in)
    encoder = dialect.stream(asked(dialect, **fields), HEAD)
    parts = [encoder.opening(), *map(encoder.delta, deltas), encoder.finish(end or finished())]
    return b"".join(parts)


def whole(deltas, end=None, *, kept_in=None, **fields) -> dict:
    dialect = Responses(ResponseStore() if kept_in is None else kept_in)
    output = Output()
    for delta in deltas:
        output.add(delta)
    output.choices[0].finished = end or finished()
    return json.loads(dialect.encode(asked(dialect, **fields), HEAD, output))


def events(stream: bytes) -> list[dict]:
    found = []
    for block in stream.decode().removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        body = json.loads(data.removeprefix("data: "))
        assert name == f"event: {body['type']}"
        found.append(body)
    return found


def assembled(stream: bytes) -> list[dict]:
    """Put the output items together from the pieces alone."""
    items: list[dict] = []
    for event in events(stream):
        item = items[event["output_index"]] if event.get("item_id") else None
        match event["type"]:
            case "response.output_item.added":
                assert event["output_index"] == len(items)
                items.append(event["item"])
            case "response.content_part.added":
                assert event["content_index"] == len(item["content"])
                item["content"].append(event["part"])
            case "response.output_text.delta":
                part = item["content"][event["content_index"]]
                part["text"] += event["delta"]
                part["logprobs"] += event["logprobs"]
            case "response.reasoning_text.delta":
                item["content"][event["content_index"]]["text"] += event["delta"]
            case "response.function_call_arguments.delta":
                item["arguments"] += event["delta"]
            case "response.output_item.done":
                items[event["output_index"]]["status"] = event["item"]["status"]
                assert event["item"] == items[event["output_index"]]
    return items
