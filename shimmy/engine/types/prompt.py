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


class InfillPrompt(msgspec.Struct, frozen=True, kw_only=True, tag="infill"):
    """Text around a gap that the model fills, by its FIM tokens.

    `extra` holds (file name, text) pairs of other files. A model without FIM tokens refuses it.
    """

    prefix: str
    suffix: str
    extra: list[tuple[str, str]] = []


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
    """One turn of a conversation; `tool_call_id` belongs to a turn of role `tool`.

    `images` are the bytes of image files that are shown before the content. An `Engine` moves them
    into the `ChatPrompt`: a worker gets none here.
    """

    role: str
    content: str = ""
    reasoning: str | None = None
    tool_calls: list[ToolCall] = []
    tool_call_id: str | None = None
    name: str | None = None
    images: list[bytes] = []


class ChatPrompt(msgspec.Struct, frozen=True, kw_only=True, tag="chat"):
    """A conversation, rendered with the model's chat template in the worker.

    `tool_choice` is auto, none or required; `tool_name` forces a call of that tool. `json_schema`
    (a schema, or `{}` for any JSON object) constrains the answer. `template_kwargs` reach the
    template as variables. `continue_final` lets the model go on with the last message, an
    assistant's, instead of beginning a new one; its text is not repeated in the answer.

    `reasoning_budget` is the most tokens of reasoning (0: none, None: no limit). Without
    `split_reasoning` the reasoning stays in the text, tags and all.

    `images` are the bytes of image files (PNG, JPEG, WebP, GIF). In the messages' contents
    `image_mark`, a text that nobody can guess, stands for each of them, in their order.
    """

    messages: list[Message]
    tools: list[Tool] = []
    tool_choice: Literal["auto", "none", "required"] = "auto"
    tool_name: str | None = None
    parallel_tool_calls: bool = False
    json_schema: dict[str, Any] | None = None
    enable_thinking: bool | None = None
    template_kwargs: dict[str, Any] = {}
    continue_final: bool = False
    reasoning_budget: int | None = None
    split_reasoning: bool = True
    images: list[bytes] = []
    image_mark: str = ""


Prompt = TextPrompt | TokenPrompt | ChatPrompt | InfillPrompt
