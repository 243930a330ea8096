"""OpenAI's chat messages, as the engine's."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from shimmy.engine.types.prompt import Message, ToolCall
from shimmy.server.dialects.fields import unsupported
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
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCallBody] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    audio: dict[str, Any] | None = None
    function_call: dict[str, Any] | None = None


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
    if message.function_call is not None:
        raise unsupported(f"{path}.function_call", "is not supported; use tool_calls")
    # templates know `system`; `developer` is OpenAI's newer word for it
    role = "system" if message.role == "developer" else message.role
    return Message(
        role=role,
        content=_text(message, path),
        reasoning=message.reasoning_content,
        tool_calls=[
            ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments)
            for call in message.tool_calls or ()
        ],
        tool_call_id=message.tool_call_id,
        name=message.name,
    )


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
