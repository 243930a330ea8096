"""POST /v1/chat/completions: a conversation in, messages or a stream of deltas out."""

from __future__ import annotations

from typing import Any

from shimmy.server.dialects.chat_calls import empty_content, function_call, reason_of, tool_call
from shimmy.server.dialects.chat_request import parse
from shimmy.server.dialects.chat_stream import ChatStream
from shimmy.server.dialects.logprobs import chat_logprobs
from shimmy.server.dialects.openai import (
    encode_json,
    error_body,
    random_id,
    timings_body,
    usage_body,
)
from shimmy.server.dialects.output import Choice
from shimmy.server.dialects.types import Call, Head, Output

__all__ = ["encode", "error_body", "new_id", "parse", "stream"]


def new_id() -> str:
    """Return an id for an answer."""
    return random_id("chatcmpl-")


def encode(call: Call, head: Head, output: Output) -> bytes:
    """Return a `chat.completion` object."""
    total = output.total
    return encode_json(
        {
            "id": head.id,
            "object": "chat.completion",
            "created": head.created,
            "model": head.model,
            "choices": [
                {
                    "index": i,
                    "message": _message(call, head, i, choice),
                    "logprobs": (
                        None if call.request.logprobs is None else chat_logprobs(choice.logprobs)
                    ),
                    "finish_reason": reason_of(call, choice.end.reason),
                }
                for i, choice in enumerate(output.choices)
            ],
            "usage": usage_body(total.usage),
            "timings": timings_body(total),
        }
    )


def _message(call: Call, head: Head, number: int, choice: Choice) -> dict[str, Any]:
    calls = choice.tool_calls
    message: dict[str, Any] = {
        "role": "assistant",
        "content": choice.text or empty_content(call),
    }
    if choice.reasoning:
        message["reasoning_content"] = choice.reasoning
    if calls and call.extra == "functions":
        message["function_call"] = function_call(calls[0])
    elif calls:
        message["tool_calls"] = [tool_call(head, number, i, each) for i, each in enumerate(calls)]
    return message


def stream(call: Call, head: Head) -> ChatStream:
    """Return the encoder of a `chat.completion.chunk` stream."""
    return ChatStream(call, head)
