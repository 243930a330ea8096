"""A `response` object: what was asked, the items that came out, the status and the counts."""

from __future__ import annotations

from typing import Any

from shimmy.engine.types.event import Finished, Usage
from shimmy.server.dialects.logprobs import chat_logprobs
from shimmy.server.dialects.openai import random_id
from shimmy.server.dialects.parts import Part
from shimmy.server.dialects.responses.body import ResponsesBody, TextConfig
from shimmy.server.dialects.responses.items import seal
from shimmy.server.dialects.responses.tools import echo_of
from shimmy.server.dialects.types import Call, Head, Output
from shimmy.server.errors import Problem

_PREFIXES = {"reasoning": "rs", "text": "msg", "call": "fc"}


def new_id() -> str:
    """Return an id for a response."""
    return random_id("resp_")


def whole(call: Call, head: Head, output: Output) -> dict[str, Any]:
    """Return the response in one piece."""
    choice = output.choices[0]
    return finished(call, head, choice.parts.all, choice.end)


def finished(call: Call, head: Head, parts: list[Part], end: Finished) -> dict[str, Any]:
    """Return the response at its end."""
    cut = end.reason == "length"
    # an answer without a word has an empty message
    parts = parts or [Part(kind="text")]
    last = len(parts) - 1
    items = [
        item_of(call, head, part, i, "incomplete" if cut and i == last else "completed")
        for i, part in enumerate(parts)
    ]
    return {
        **begun(call, head),
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "output": items,
        "usage": usage_body(end.usage),
    }


def failed(call: Call, head: Head, parts: list[Part], problem: Problem) -> dict[str, Any]:
    """Return the response of a generation that broke off."""
    code = "server_error" if problem.is_ours else "invalid_prompt"
    return {
        **begun(call, head),
        "status": "failed",
        "error": {"code": code, "message": problem.message},
        "output": [item_of(call, head, part, i, "incomplete") for i, part in enumerate(parts)],
    }


def begun(call: Call, head: Head) -> dict[str, Any]:
    """Return the response as it begins: all that was asked, and no output."""
    body: ResponsesBody = call.extra.body
    return {
        "id": head.id,
        "object": "response",
        "created_at": head.created,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": body.max_tool_calls,
        "model": head.model,
        "output": [],
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": body.previous_response_id,
        "prompt_cache_key": body.prompt_cache_key,
        "reasoning": {
            "effort": body.reasoning.effort if body.reasoning else None,
            "summary": body.reasoning.summary if body.reasoning else None,
        },
        "safety_identifier": body.safety_identifier,
        "service_tier": "default",
        "store": call.extra.store,
        "temperature": body.temperature,
        "text": _text(body.text),
        "tool_choice": "auto" if body.tool_choice is None else body.tool_choice,
        "tools": [echo_of(tool) for tool in body.tools or ()],
        "top_logprobs": body.top_logprobs or 0,
        "top_p": body.top_p,
        "truncation": "disabled",
        "usage": None,
        "user": body.user,
        "metadata": body.metadata or {},
    }


def _text(text: TextConfig | None) -> dict[str, Any]:
    form: dict[str, Any] = {"type": "text"}
    given = text.format if text else None
    if given is not None:
        form["type"] = given.type
    if given is not None and given.type == "json_schema":
        form |= {
            "name": given.name,
            "description": given.description,
            "schema": given.schema,
            "strict": True if given.strict is None else given.strict,
        }
    return {"format": form, "verbosity": "medium"}


def item_id(head: Head, part: Part, index: int) -> str:
    """Return the id of output item `index`, the same in every encoding."""
    return f"{_PREFIXES[part.kind]}_{head.id.removeprefix('resp_')}{index:02d}"


def item_of(call: Call, head: Head, part: Part, index: int, status: str) -> dict[str, Any]:
    """Return an output item; one that is in progress has no content yet."""
    item: dict[str, Any] = {"id": item_id(head, part, index)}
    empty = status == "in_progress"
    if part.kind == "reasoning":
        item |= {"type": "reasoning", "summary": []}
        item["content"] = [] if empty else [content_of(part)]
        if call.extra.seals_reasoning:
            item["encrypted_content"] = seal("" if empty else part.text)
        return {**item, "status": status}
    if part.kind == "text":
        item |= {"type": "message", "status": status, "role": "assistant"}
        return {**item, "content": [] if empty else [content_of(part)]}
    return {
        **item,
        "type": "function_call",
        "status": status,
        # models that give their calls no id get one that is the same in every encoding
        "call_id": part.id or f"call_{head.id.removeprefix('resp_')}_{part.index}",
        "name": part.name,
        "arguments": "" if empty else part.text,
    }


def content_of(part: Part) -> dict[str, Any]:
    """Return the one part of a message's or a reasoning item's content."""
    if part.kind == "reasoning":
        return {"type": "reasoning_text", "text": part.text}
    return {
        "type": "output_text",
        "text": part.text,
        "annotations": [],
        "logprobs": chat_logprobs(part.logprobs)["content"],
    }


def usage_body(usage: Usage) -> dict[str, Any]:
    """Return the counts; all are exact."""
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
