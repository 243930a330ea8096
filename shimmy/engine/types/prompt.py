"""What a request starts from: text, tokens or a conversation."""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class TextPrompt(msgspec.Struct, frozen=True, tag="text"):
    """Raw text, tokenised as it is; `add_special` puts the model's BOS in front if it wants one."""

    text: str
    add_special: bool = True
    parse_special: bool = True


class TokenPrompt(msgspec.Struct, frozen=True, tag="tokens"):
    """Token ids of the model's vocabulary, used as they are."""

    tokens: list[int]


class ToolCall(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A call the model made; `arguments` is JSON text."""

    id: str = ""
    name: str = ""
    arguments: str = ""


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """A function the model may call; `parameters` is a JSON schema."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = {}


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One turn of a conversation; `tool_call_id` belongs to a turn of role `tool`."""

    role: str
    content: str = ""
    reasoning: str | None = None
    tool_calls: list[ToolCall] = []
    tool_call_id: str | None = None
    name: str | None = None


class ChatPrompt(msgspec.Struct, frozen=True, kw_only=True, tag="chat"):
    """A conversation, rendered with the model's chat template in the worker.

    `tool_choice` is auto, none or required. `json_schema` (a schema, or `{}` for any JSON object)
    constrains the answer. `template_kwargs` reach the template as variables.
    """

    messages: list[Message]
    tools: list[Tool] = []
    tool_choice: Literal["auto", "none", "required"] = "auto"
    parallel_tool_calls: bool = False
    json_schema: dict[str, Any] | None = None
    enable_thinking: bool | None = None
    template_kwargs: dict[str, Any] = {}


Prompt = TextPrompt | TokenPrompt | ChatPrompt
