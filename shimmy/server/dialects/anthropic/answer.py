"""A `message` object: content blocks, the reason it ended, and what it cost."""

from __future__ import annotations

from typing import Any

from shimmy.engine.types.event import Finished, FinishReason, Usage
from shimmy.server.dialects.openai import encode_json, random_id
from shimmy.server.dialects.partial_json import whole_part
from shimmy.server.dialects.parts import Part
from shimmy.server.dialects.types import Call, Head, Output

SIGNATURE = "shimmy"
"""Of a thinking block: SDKs want one, and nothing here checks it when it comes back."""

_REASONS: dict[FinishReason, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
}


def new_id() -> str:
    """Return an id for an answer."""
    return random_id("msg_")


def encode(call: Call, head: Head, output: Output) -> bytes:
    """Return the whole `message`."""
    choice = output.choices[0]
    # an answer without a word has an empty text, so that there is always a first block
    parts = choice.parts.all or [Part(kind="text")]
    return encode_json(
        {
            **message_head(head),
            "content": [block_of(part, head) for part in parts],
            **ending(call, choice.end),
            "usage": usage_body(choice.end.usage),
        }
    )


def message_head(head: Head) -> dict[str, Any]:
    """Return what a message begins with."""
    return {"id": head.id, "type": "message", "role": "assistant", "model": head.model}


def block_of(part: Part, head: Head) -> dict[str, Any]:
    """Return a whole content block."""
    if part.kind == "reasoning":
        return {"type": "thinking", "thinking": part.text, "signature": SIGNATURE}
    if part.kind == "text":
        return {"type": "text", "text": part.text}
    return {**call_head(part, head), "input": whole_part(part.text)}


def call_head(part: Part, head: Head) -> dict[str, Any]:
    """Return what a tool_use begins with; models that give no id get one that stays the same."""
    call_id = part.id or f"toolu_{head.id.removeprefix('msg_')}_{part.index}"
    return {"type": "tool_use", "id": call_id, "name": part.name}


def ending(call: Call, end: Finished) -> dict[str, Any]:
    """Return the reason, and the stop sequence if it was one of the body's."""
    # templates have stops of their own, which clients know nothing of
    if end.reason == "stop" and end.stop is not None and end.stop in call.request.stop:
        return {"stop_reason": "stop_sequence", "stop_sequence": end.stop}
    reason = _REASONS[end.reason]
    limit = call.request.max_tokens
    if end.reason == "length" and limit is not None and end.usage.completion_tokens < limit:
        reason = "model_context_window_exceeded"
    return {"stop_reason": reason, "stop_sequence": None}


def usage_body(usage: Usage) -> dict[str, Any]:
    """Return the counts. Anthropic's input is what was not in the cache."""
    body: dict[str, Any] = {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
    }
    if usage.reasoning_tokens:
        body["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return body
