"""OpenAI's chat messages, as the engine's."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from shimmy.engine.types.prompt import Message, ToolCall
from shimmy.server.dialects.fields import unsupported
from shimmy.server.dialects.partial_json import sent_back
from shimmy.server.errors import FieldError


class ContentPart(msgspec.Struct, kw_only=True):
    """A part of a message's content; only those of text are taken."""

    type: str
    text: str | None = None
    refusal: str | None = None


class CalledFunction(msgspec.Struct, kw_only=True):
    """The name and the JSON text of the arguments of a call."""

    name: str
    arguments: str = ""


class ToolCallBody(msgspec.Struct, kw_only=True):
    """A call that an earlier answer made."""

    function: CalledFunction
    id: str = ""
    type: Literal["function"] = "function"


class ChatMessage(msgspec.Struct, kw_only=True):
    """One message of a conversation; `function` is the older word for `tool`."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCallBody] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    audio: dict[str, Any] | None = None
    function_call: CalledFunction | None = None


def messages_of(messages: list[ChatMessage], field: str = "messages") -> list[Message]:
    """Return the conversation.

    Raises:
        FieldError: there is none (code `invalid_messages`), or one cannot be taken; names which.
    """
    if not messages:
        raise FieldError(
            f"{field} must hold at least one message", param=field, code="invalid_messages"
        )
    return [_message(message, f"{field}[{i}]") for i, message in enumerate(messages)]


def _message(message: ChatMessage, path: str) -> Message:
    if message.audio is not None:
        raise unsupported(f"{path}.audio")
    if message.role == "function" and not message.name:
        raise FieldError(
            f"{path}.name is required", param=f"{path}.name", code="missing_required_parameter"
        )
    return Message(
        role=_ROLES.get(message.role, message.role),
        content=_text(message, path),
        reasoning=message.reasoning_content,
        tool_calls=_calls(message),
        # the older form has no ids: a function has at most one call under way
        tool_call_id=message.name if message.role == "function" else message.tool_call_id,
        name=message.name,
    )


# templates know `system` and `tool`
_ROLES = {"developer": "system", "function": "tool"}


def _calls(message: ChatMessage) -> list[ToolCall]:
    if message.function_call is not None:
        name, arguments = message.function_call.name, message.function_call.arguments
        return [ToolCall(id=name, name=name, arguments=sent_back(arguments))]
    return [
        ToolCall(id=call.id, name=call.function.name, arguments=sent_back(call.function.arguments))
        for call in message.tool_calls or ()
    ]


def _text(message: ChatMessage, path: str) -> str:
    content = message.content
    if isinstance(content, str):
        return content
    if content is None:
        if message.role == "assistant":
            # null beside tool calls, or a refusal in its place
            return message.refusal or ""
        raise FieldError(
            f"{path}.content is required", param=f"{path}.content", code="invalid_messages"
        )
    return "\n".join(
        _part(part, f"{path}.content[{i}]", message.role) for i, part in enumerate(content)
    )


def _part(part: ContentPart, path: str, role: str) -> str:
    if part.type == "text":
        text = part.text
    elif part.type == "refusal" and role == "assistant":
        text = part.refusal
    else:
        raise unsupported(path, f"is of type {part.type!r}, but this model takes text only")
    if text is None:
        raise FieldError(
            f"{path}.{part.type} is required",
            param=f"{path}.{part.type}",
            code="missing_required_parameter",
        )
    return text
