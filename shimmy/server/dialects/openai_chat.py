"""POST /v1/chat/completions: a conversation in, one message or a stream of deltas out."""

from __future__ import annotations

from typing import Any

from shimmy.engine.types.event import Delta, Finished, ToolCallDelta
from shimmy.engine.types.prompt import ToolCall
from shimmy.server.dialects.chat_request import parse
from shimmy.server.dialects.openai import (
    encode_json,
    error_body,
    error_event,
    random_id,
    timings_body,
    usage_body,
)
from shimmy.server.dialects.types import Call, Head, Output
from shimmy.server.errors import Problem
from shimmy.server.sse import DONE

__all__ = ["encode", "error_body", "new_id", "parse", "stream"]


def new_id() -> str:
    """Return an id for an answer."""
    return random_id("chatcmpl-")


def encode(head: Head, output: Output) -> bytes:
    """Return a `chat.completion` object."""
    end = output.end
    calls = output.tool_calls
    message: dict[str, Any] = {
        "role": "assistant",
        # null says "no text, look at the calls"
        "content": output.text or (None if calls else ""),
    }
    if output.reasoning:
        message["reasoning_content"] = output.reasoning
    if calls:
        message["tool_calls"] = [_whole_call(head, i, call) for i, call in enumerate(calls)]
    return encode_json(
        {
            "id": head.id,
            "object": "chat.completion",
            "created": head.created,
            "model": head.model,
            "choices": [
                {
                    "index": 0,
                    "message": message,
                    "logprobs": None,
                    "finish_reason": end.reason,
                }
            ],
            "usage": usage_body(end.usage),
            "timings": timings_body(end),
        }
    )


def stream(call: Call, head: Head) -> ChatStream:
    """Return the encoder of a `chat.completion.chunk` stream."""
    return ChatStream(call, head)


class ChatStream:
    """Chunks of one answer. What all of them share is encoded once, so a delta is three joins."""

    def __init__(self, call: Call, head: Head) -> None:
        """Encode what every chunk begins and ends with."""
        self._head = head
        self._include_usage = call.include_usage
        shared = encode_json(
            {
                "id": head.id,
                "object": "chat.completion.chunk",
                "created": head.created,
                "model": head.model,
            }
        )
        # OpenAI: once usage is asked for, every chunk but the last says it is null
        usage = b',"usage":null' if call.include_usage else b""
        self._begin = b"data: " + shared[:-1]
        self._delta = self._begin + b',"choices":[{"index":0,"delta":'
        self._end = b',"finish_reason":null}]' + usage + b"}\n\n"
        self._usage = usage
        self._content = self._delta + b'{"content":'
        self._content_end = b"}" + self._end

    def opening(self) -> bytes:
        """Return the chunk that carries the role; SDKs want it first."""
        return self._delta + b'{"role":"assistant","content":""}' + self._end

    def delta(self, delta: Delta) -> bytes:
        """Return a chunk for each kind of output: reasoning, content, each piece of a call."""
        if delta.text and not delta.reasoning and not delta.tool_calls:
            return self._content + encode_json(delta.text) + self._content_end
        parts = []
        if delta.reasoning:
            parts.append(self._chunk({"reasoning_content": delta.reasoning}))
        if delta.text:
            parts.append(self._chunk({"content": delta.text}))
        parts += [
            self._chunk({"tool_calls": [_call_piece(self._head, piece)]})
            for piece in delta.tool_calls
        ]
        return b"".join(parts)

    def finish(self, finished: Finished) -> bytes:
        """Return the reason, the usage chunk if asked for, and [DONE]."""
        reason = encode_json(finished.reason)
        timings = encode_json(timings_body(finished))
        last = b"%b{},%b%b}],%b%b%b}\n\n" % (
            self._delta,
            b'"finish_reason":',
            reason,
            b'"timings":',
            timings,
            self._usage,
        )
        if not self._include_usage:
            return last + DONE
        usage = encode_json(usage_body(finished.usage))
        return last + self._begin + b',"choices":[],"usage":' + usage + b"}\n\n" + DONE

    def error(self, problem: Problem) -> bytes:
        """Return the error event; no [DONE] follows it."""
        return error_event(problem)

    def _chunk(self, delta: dict[str, Any]) -> bytes:
        return self._delta + encode_json(delta) + self._end


def _call_piece(head: Head, piece: ToolCallDelta) -> dict[str, Any]:
    """Id, type and name go out once: clients append what they get."""
    call = piece.call
    if not call.name:
        return {"index": piece.index, "function": {"arguments": call.arguments}}
    return {"index": piece.index, **_whole_call(head, piece.index, call)}


def _whole_call(head: Head, index: int, call: ToolCall) -> dict[str, Any]:
    return {
        # models that give their calls no id get one that is the same in every encoding
        "id": call.id or f"call_{head.id.removeprefix('chatcmpl-')}_{index}",
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }
