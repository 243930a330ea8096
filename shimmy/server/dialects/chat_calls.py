"""Tool calls in a chat's answer, and the older single function call."""

from __future__ import annotations

from typing import Any

from shimmy.engine.types.event import ToolCallDelta
from shimmy.engine.types.prompt import ChatPrompt, ToolCall
from shimmy.server.dialects.types import Call, Head


def tool_call(head: Head, choice: int, index: int, call: ToolCall) -> dict[str, Any]:
    """Return call number `index` of a choice."""
    return {
        "id": _call_id(head, choice, index, call),
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }


def _call_id(head: Head, choice: int, index: int, call: ToolCall) -> str:
    """Return the model's id, or else one that no other answer has and every encoding repeats."""
    # a mere number tells a conversation's calls not apart
    if call.id and call.id != f"call_{index}":
        return call.id
    answer = head.id.removeprefix("chatcmpl-")
    return f"call_{answer}_{choice}_{index}" if choice else f"call_{answer}_{index}"


def tool_call_piece(head: Head, choice: int, piece: ToolCallDelta) -> dict[str, Any]:
    """Return a piece of a call. Id, type and name go out once: clients append what they get."""
    call = piece.call
    if not call.name:
        return {"index": piece.index, "function": {"arguments": call.arguments}}
    return {"index": piece.index, **tool_call(head, choice, piece.index, call)}


def function_call(call: ToolCall) -> dict[str, Any]:
    """Return a call, or a piece of one, for those who asked with `functions`."""
    named = {"name": call.name} if call.name else {}
    return {**named, "arguments": call.arguments}


def empty_content(call: Call) -> str | None:
    """Return the content of a message without text: null where it may have calls instead."""
    prompt = call.request.prompt
    return None if isinstance(prompt, ChatPrompt) and prompt.tools else ""


def reason_of(call: Call, reason: str) -> str:
    """Return the finish reason under the name that goes with the request."""
    return "function_call" if reason == "tool_calls" and call.extra == "functions" else reason
