"""The JSON of POST /v1/chat/completions: every field that is known, and those that are refused."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from shimmy.server.dialects.fields import Harmless, never, one_of
from shimmy.server.dialects.generation import GenerationFields
from shimmy.server.dialects.messages import ChatMessage
from shimmy.server.dialects.openai import StreamOptions
from shimmy.server.dialects.response_format import ResponseFormat


class FunctionBody(msgspec.Struct, kw_only=True):
    """A function the model may call; `parameters` is a JSON schema."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ToolBody(msgspec.Struct, kw_only=True):
    """A tool; of its kinds, functions are taken."""

    type: str = "function"
    function: FunctionBody | None = None


class FunctionName(msgspec.Struct, kw_only=True):
    """A function by its name."""

    name: str


class NamedTool(msgspec.Struct, kw_only=True):
    """A tool by its name."""

    type: Literal["function"]
    function: FunctionName


class AllowedTools(msgspec.Struct, kw_only=True):
    """The tools that may be called this time."""

    mode: Literal["auto", "required"]
    tools: list[NamedTool]


class ToolChoice(msgspec.Struct, kw_only=True):
    """A choice that names tools: one to call, or some that may be called."""

    type: Literal["function", "allowed_tools"]
    function: FunctionName | None = None
    allowed_tools: AllowedTools | None = None


class ChatBody(GenerationFields, kw_only=True):
    """All fields that are known. Others are accepted and mean nothing."""

    messages: list[ChatMessage]
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n_predict: int | None = None
    n: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[ToolBody] | None = None
    tool_choice: Literal["auto", "none", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    functions: list[FunctionBody] | None = None
    function_call: Literal["auto", "none"] | FunctionName | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: str | None = None
    reasoning_format: Literal["auto", "none", "deepseek", "deepseek-legacy"] | None = None
    reasoning_budget: int | None = None
    reasoning_budget_tokens: int | None = None
    thinking_budget_tokens: int | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    continue_final_message: bool | None = None
    add_generation_prompt: bool | None = None

    # of no effect on a local server
    user: str | None = None
    metadata: dict[str, Any] | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    # refused, see REFUSED
    audio: dict[str, Any] | None = None
    modalities: list[str] | None = None
    prediction: dict[str, Any] | None = None
    store: bool | None = None
    verbosity: str | None = None
    web_search_options: dict[str, Any] | None = None


REFUSED: dict[str, Harmless] = {
    "audio": never,
    "modalities": lambda value: value == ["text"],
    "prediction": never,
    "store": one_of(False),
    "verbosity": one_of("medium"),
    "web_search_options": never,
    "reasoning_format": one_of("auto", "none", "deepseek"),
}
