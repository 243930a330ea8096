"""The fields of POST /v1/responses and of /v1/responses/input_tokens, and which of them work."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from shimmy.server.dialects.fields import Harmless, never, one_of
from shimmy.server.dialects.generation import GenerationFields
from shimmy.server.dialects.openai import StreamOptions
from shimmy.server.dialects.responses.items import Item
from shimmy.server.dialects.responses.tools import FunctionTool, ToolChoice

INCLUDES = ("message.output_text.logprobs", "reasoning.encrypted_content")
MAX_TOP_LOGPROBS = 20


class TextFormat(msgspec.Struct, kw_only=True):
    """What the answer must be."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    description: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class TextConfig(msgspec.Struct, kw_only=True):
    """How the text is to be."""

    format: TextFormat | None = None
    verbosity: str | None = None


class Reasoning(msgspec.Struct, kw_only=True):
    """How hard the model is to think, and what of it is told."""

    effort: str | None = None
    summary: str | None = None
    generate_summary: str | None = None
    mode: str | None = None
    context: str | None = None


class ResponsesPrompt(GenerationFields, kw_only=True):
    """What the prompt is made of: all that counting its tokens takes."""

    model: str | None = None
    input: str | list[Item] | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    tools: list[FunctionTool] | None = None
    tool_choice: str | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: Reasoning | None = None
    chat_template_kwargs: dict[str, Any] | None = None

    # refused, see REFUSED
    truncation: str | None = None
    conversation: str | dict[str, Any] | None = None
    personality: str | None = None


class ResponsesBody(ResponsesPrompt, kw_only=True):
    """All fields that are known. Others are accepted and mean nothing."""

    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_output_tokens: int | None = None
    store: bool | None = None
    metadata: dict[str, str] | None = None
    include: list[str] | None = None
    top_logprobs: int | None = None

    # of no effect on a local server
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    service_tier: str | None = None
    # it counts calls of built-in tools, of which there are none
    max_tool_calls: int | None = None

    # refused, see REFUSED_OF_ANSWERS
    background: bool | None = None
    prompt: dict[str, Any] | None = None
    context_management: list[Any] | None = None
    moderation: dict[str, Any] | None = None


REFUSED: dict[str, Harmless] = {
    "truncation": one_of("disabled"),
    "conversation": never,
    "personality": never,
}
REFUSED_OF_ANSWERS: dict[str, Harmless] = {
    **REFUSED,
    "background": one_of(False),
    "prompt": never,
    "context_management": lambda value: not value,
    "moderation": never,
}
REFUSED_OF_TEXT: dict[str, Harmless] = {"verbosity": one_of("medium")}
REFUSED_OF_REASONING: dict[str, Harmless] = {
    # the reasoning itself is told
    "summary": one_of("auto"),
    "generate_summary": one_of("auto"),
    "mode": one_of("standard"),
    "context": one_of("auto"),
}
