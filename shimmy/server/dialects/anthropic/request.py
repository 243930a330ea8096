"""The body of POST /v1/messages and of /v1/messages/count_tokens, as the engine's request."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from shimmy.engine.images import Images
from shimmy.engine.types.prompt import ChatPrompt
from shimmy.server.dialects.anthropic.blocks import Block, Turn, conversation
from shimmy.server.dialects.anthropic.tools import ToolBody, ToolChoice, choice_of, tools_of
from shimmy.server.dialects.fields import (
    MAX_INT,
    Harmless,
    check_max_tokens,
    check_stops,
    check_tree,
    decode,
    never,
    one_of,
    refuse,
    unsupported,
)
from shimmy.server.dialects.generation import GenerationFields, request_of
from shimmy.server.dialects.types import Call
from shimmy.server.errors import FieldError


class Thinking(msgspec.Struct, kw_only=True):
    """Whether the model thinks first, and for how many tokens at most."""

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: int | None = None
    display: Literal["summarized", "omitted"] | None = None


class OutputFormat(msgspec.Struct, kw_only=True):
    """What the answer must be."""

    type: Literal["json_schema"]
    schema: dict[str, Any]


class OutputConfig(msgspec.Struct, kw_only=True):
    """How much effort, and in which format."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: OutputFormat | None = None


class MessagesPrompt(GenerationFields, kw_only=True):
    """What the prompt is made of: all that counting its tokens takes."""

    model: str
    messages: list[Turn]
    system: str | list[Block] | None = None
    tools: list[ToolBody] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    # what output_config.format was called at first
    output_format: OutputFormat | None = None

    # of no effect on a local server, where every prompt is cached
    cache_control: dict[str, Any] | None = None
    user_profile_id: str | None = None

    # refused, see _REFUSED
    speed: str | None = None
    mcp_servers: list[Any] | None = None
    context_management: dict[str, Any] | None = None


class MessagesBody(MessagesPrompt, kw_only=True):
    """All fields that are known. Others are accepted and mean nothing."""

    max_tokens: int
    stop_sequences: list[str] | None = None
    stream: bool | None = None

    # of no effect on a local server
    metadata: dict[str, Any] | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    inference_geo: str | None = None

    # refused, see _REFUSED
    container: str | dict[str, Any] | None = None
    diagnostics: dict[str, Any] | None = None


_REFUSED: dict[str, Harmless] = {
    "speed": one_of("standard"),
    "mcp_servers": lambda value: not value,
    "context_management": lambda value: not value.get("edits"),
}
_REFUSED_OF_ANSWERS: dict[str, Harmless] = {**_REFUSED, "container": never, "diagnostics": never}

_decoder = msgspec.json.Decoder(MessagesBody)
_count_decoder = msgspec.json.Decoder(MessagesPrompt)


def parse(raw: bytes) -> Call:
    """Return what the body asks for.

    Raises:
        InvalidRequestError: it makes no sense, or is not supported; names the field.
    """
    body = decode(_decoder, raw)
    refuse(body, _REFUSED_OF_ANSWERS)
    prompt = _prompt(body)
    if prompt.json_schema is not None and body.grammar is not None:
        raise FieldError(
            "grammar and output_config.format both constrain the answer; give one of them",
            param="grammar",
            code="invalid_value",
        )
    max_tokens = check_max_tokens(body.max_tokens, "max_tokens")
    _check_budget(prompt.reasoning_budget, body.max_tokens)
    stops = check_stops(body.stop_sequences or [], "stop_sequences")
    request = request_of(body, prompt, max_tokens)
    return Call(
        model=body.model,
        prompt_field="messages",
        stream=bool(body.stream),
        request=msgspec.structs.replace(request, stop=[*request.stop, *stops]),
    )


def parse_count(raw: bytes) -> tuple[str, ChatPrompt]:
    """Return the model's name, and the prompt whose tokens are to be counted.

    Raises:
        InvalidRequestError: as of `parse`.
    """
    body = decode(_count_decoder, raw)
    refuse(body, _REFUSED)
    return body.model, _prompt(body)


def _prompt(body: MessagesPrompt) -> ChatPrompt:
    images = Images()
    messages = conversation(body.system, body.messages, images)
    tools = tools_of(body.tools or [])
    tool_choice, tool_name = choice_of(body.tool_choice, tools)
    continued = messages[-1].role == "assistant"
    if continued and messages[-1].tool_calls:
        raise FieldError(
            "messages ends with a tool_use; a user's message with its tool_result must follow",
            param="messages",
            code="invalid_messages",
        )
    thinks, budget = _thinking(body.thinking, continued=continued)
    effort = body.output_config and body.output_config.effort
    return ChatPrompt(
        messages=messages,
        tools=tools,
        tool_choice=tool_choice,
        tool_name=tool_name,
        # Anthropic's default, unlike that of the engine
        parallel_tool_calls=not (body.tool_choice and body.tool_choice.disable_parallel_tool_use),
        json_schema=_schema(body),
        enable_thinking=thinks,
        template_kwargs={"reasoning_effort": effort} if effort else {},
        continue_final=continued,
        reasoning_budget=budget,
        images=images.files,
        image_mark=images.mark,
    )


def _thinking(thinking: Thinking | None, *, continued: bool) -> tuple[bool, int | None]:
    """Return whether to think, and for how many tokens; without a word of it, Anthropic does not."""
    if thinking is None or thinking.type == "disabled":
        # models that always think are cut short: what was not asked for is not sent
        return False, 0
    if thinking.display == "omitted":
        raise unsupported("thinking.display", "'omitted' is not supported here; leave it out")
    if continued:
        raise FieldError(
            "thinking cannot be combined with a last message of the assistant's, which the answer "
            "continues: thinking would have come before it",
            param="thinking",
            code="invalid_value",
        )
    if thinking.type == "adaptive":
        return True, None
    if thinking.budget_tokens is None:
        raise FieldError(
            "thinking.budget_tokens is required",
            param="thinking.budget_tokens",
            code="missing_required_parameter",
        )
    if not 1 <= thinking.budget_tokens <= MAX_INT:
        raise _bad_budget(f"must be between 1 and {MAX_INT}, got {thinking.budget_tokens}")
    return True, thinking.budget_tokens


def _check_budget(budget: int | None, max_tokens: int) -> None:
    if budget is not None and budget >= max_tokens:
        raise _bad_budget(f"must be less than max_tokens ({max_tokens}), got {budget}")


def _bad_budget(rule: str) -> FieldError:
    path = "thinking.budget_tokens"
    return FieldError(f"{path} {rule}", param=path, code="invalid_value")


def _schema(body: MessagesPrompt) -> dict[str, Any] | None:
    form = body.output_config.format if body.output_config else None
    path = "output_config.format.schema"
    if form is None:
        form, path = body.output_format, "output_format.schema"
    if form is None:
        return None
    check_tree(form.schema, path)
    return form.schema
