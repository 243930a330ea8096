"""Bodies of the Responses API, as the engine's request."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from shimmy.engine.images import Images
from shimmy.engine.types.prompt import ChatPrompt
from shimmy.server.dialects.fields import (
    Harmless,
    check_max_tokens,
    check_tree,
    decode,
    refuse,
    unsupported,
)
from shimmy.server.dialects.generation import request_of
from shimmy.server.dialects.openai import wants_usage
from shimmy.server.dialects.responses.body import (
    INCLUDES,
    MAX_TOP_LOGPROBS,
    REFUSED,
    REFUSED_OF_ANSWERS,
    REFUSED_OF_REASONING,
    REFUSED_OF_TEXT,
    ResponsesBody,
    ResponsesPrompt,
    TextConfig,
)
from shimmy.server.dialects.responses.items import Item, items_of, messages_of
from shimmy.server.dialects.responses.tools import choose, tools_of
from shimmy.server.dialects.template_kwargs import template_kwargs_of
from shimmy.server.dialects.types import Call
from shimmy.server.errors import FieldError


class Memory(Protocol):
    """What is kept of earlier responses."""

    def context(self, response_id: str) -> list[Item] | None:
        """Return all items up to that response and with it; None if it is not there."""

    def item(self, item_id: str) -> Item | None:
        """Return the item of that id, if it is still there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the answer needs of the body. `items` are all that the model read, in order."""

    body: ResponsesBody
    items: list[Item]
    store: bool
    seals_reasoning: bool


_decoder = msgspec.json.Decoder(ResponsesBody)
_count_decoder = msgspec.json.Decoder(ResponsesPrompt)


def parse(raw: bytes, memory: Memory) -> Call:
    """Return what the body asks for; `extra` is an `Asked`.

    Raises:
        InvalidRequestError: it makes no sense, or is not supported; names the field.
    """
    body = decode(_decoder, raw)
    refuse(body, REFUSED_OF_ANSWERS)
    wants_usage(body.stream_options)
    before, new = _items(body, memory)
    include = _include(body.include or [])
    max_tokens = check_max_tokens(body.max_output_tokens, "max_output_tokens")
    return Call(
        model=body.model,
        prompt_field="input",
        stream=bool(body.stream),
        request=request_of(
            body,
            _prompt(body, before, new),
            max_tokens,
            logprobs=_logprobs(body.top_logprobs, include),
        ),
        extra=Asked(
            body=body,
            items=[*before, *new],
            store=body.store is not False,
            seals_reasoning="reasoning.encrypted_content" in include,
        ),
    )


def parse_count(raw: bytes, memory: Memory) -> tuple[str | None, ChatPrompt]:
    """Return the model's name, and the prompt whose tokens are to be counted.

    Raises:
        InvalidRequestError: as of `parse`.
    """
    body = decode(_count_decoder, raw)
    refuse(body, REFUSED)
    return body.model, _prompt(body, *_items(body, memory))


def _items(body: ResponsesPrompt, memory: Memory) -> tuple[list[Item], list[Item]]:
    """Return what was said before, and the body's own items."""
    before: list[Item] = []
    if body.previous_response_id is not None:
        found = memory.context(body.previous_response_id)
        if found is None:
            raise FieldError(
                f"previous_response_id: no response {body.previous_response_id!r} is kept here "
                "(any more); send the conversation as input",
                param="previous_response_id",
                code="previous_response_not_found",
            )
        before = found
    new = items_of(body.input, memory)
    if not before and not new:
        raise FieldError("input is required", param="input", code="missing_required_parameter")
    return before, new


def _placed(before: list[Item], new: list[Item]) -> Iterator[tuple[str, Item]]:
    """Yield the items with where they are in the body."""
    for item in before:
        yield "previous_response_id", item
    for i, item in enumerate(new):
        yield f"input[{i}]", item


def _prompt(body: ResponsesPrompt, before: list[Item], new: list[Item]) -> ChatPrompt:
    tool_choice, tool_name, tools = choose(body.tool_choice, tools_of(body.tools or []))
    schema = _schema(body.text)
    if schema is not None and body.grammar is not None:
        raise FieldError(
            "grammar and text.format both constrain the answer; give one of them",
            param="grammar",
            code="invalid_value",
        )
    kwargs, thinking = _reasoning(body)
    images = Images()
    return ChatPrompt(
        messages=messages_of(body.instructions, _placed(before, new), images),
        tools=tools,
        tool_choice=tool_choice,
        tool_name=tool_name,
        # OpenAI's default, unlike that of the engine
        parallel_tool_calls=body.parallel_tool_calls is not False,
        json_schema=schema,
        enable_thinking=thinking,
        template_kwargs=kwargs,
        images=images.files,
        image_mark=images.mark,
    )


def _schema(text: TextConfig | None) -> dict[str, Any] | None:
    """Return the JSON schema that the answer must fit; {} is any object."""
    if text is None:
        return None
    _refuse_within(text, "text", REFUSED_OF_TEXT)
    if text.format is None or text.format.type == "text":
        return None
    if text.format.type == "json_object":
        return {}
    for name in ("name", "schema"):
        if getattr(text.format, name) is None:
            path = f"text.format.{name}"
            raise FieldError(f"{path} is required", param=path, code="missing_required_parameter")
    check_tree(text.format.schema, "text.format.schema")
    return text.format.schema


def _reasoning(body: ResponsesPrompt) -> tuple[dict[str, Any], bool | None]:
    """Return variables for the template, and whether the model is to think first."""
    if body.reasoning is not None:
        _refuse_within(body.reasoning, "reasoning", REFUSED_OF_REASONING)
    effort = body.reasoning.effort if body.reasoning else None
    return template_kwargs_of(body.chat_template_kwargs, effort)


def _refuse_within(value: object, path: str, fields: dict[str, Harmless]) -> None:
    for name, harmless in fields.items():
        given = getattr(value, name)
        if given is not None and not harmless(given):
            raise unsupported(f"{path}.{name}", f"{given!r} is not supported here; leave it out")


def _include(include: list[str]) -> list[str]:
    for i, wish in enumerate(include):
        if wish not in INCLUDES:
            known = " and ".join(INCLUDES)
            raise unsupported(f"include[{i}]", f"{wish!r} is not supported; of its values, {known}")
    return include


def _logprobs(top: int | None, include: list[str]) -> int | None:
    if top is not None and not 0 <= top <= MAX_TOP_LOGPROBS:
        raise FieldError(
            f"top_logprobs must be between 0 and {MAX_TOP_LOGPROBS}, got {top}",
            param="top_logprobs",
            code="invalid_value",
        )
    if "message.output_text.logprobs" in include:
        return top or 0
    return top or None
