"""OpenAI's chat messages, as the engine's."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from shimmy.engine.images import Images
from shimmy.engine.types.prompt import Message, ToolCall
from shimmy.server.dialects.fields import unsupported
from shimmy.server.dialects.partial_json import sent_back
from shimmy.server.errors import FieldError


class ImageUrl(msgspec.Struct, kw_only=True):
    """An image as a data: URL. The model's own way of seeing decides on the detail."""

    url: str
    detail: Literal["auto", "low", "high", "original"] | None = None


class ContentPart(msgspec.Struct, kw_only=True):
    """A part of a message's content: of type `text`, or `image_url` in a user's message."""

    type: str
    text: str | None = None
    image_url: str | ImageUrl | None = None
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


def messages_of(
    messages: list[ChatMessage], images: Images, field: str = "messages"
) -> list[Message]:
    """Return the conversation; its images go to `images`.

    Raises:
        FieldError: there is none (code `invalid_messages`), or one cannot be taken; names which.
        ImageError: an image cannot be taken; names it.
    """
    if not messages:
        raise FieldError(
            f"{field} must hold at least one message", param=field, code="invalid_messages"
        )
    return [_message(message, f"{field}[{i}]", images) for i, message in enumerate(messages)]


def _message(message: ChatMessage, path: str, images: Images) -> Message:
    if message.audio is not None:
        raise unsupported(f"{path}.audio")
    if message.role == "function" and not message.name:
        raise _missing(f"{path}.name")
    return Message(
        role=_ROLES.get(message.role, message.role),
        content=_text(message, path, images),
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


def _text(message: ChatMessage, path: str, images: Images) -> str:
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
    return images.join(
        _part(part, f"{path}.content[{i}]", message.role, images) for i, part in enumerate(content)
    )


def _part(part: ContentPart, path: str, role: str, images: Images) -> str:
    if part.type == "image_url":
        return _image(part.image_url, path, role, images)
    if part.type == "text":
        text = part.text
    elif part.type == "refusal" and role == "assistant":
        text = part.refusal
    else:
        raise unsupported(
            path, f"is of type {part.type!r}, which is not supported here: texts and images are"
        )
    if text is None:
        raise _missing(f"{path}.{part.type}")
    return text


def _image(image: str | ImageUrl | None, path: str, role: str, images: Images) -> str:
    if role != "user":
        raise unsupported(path, f"is an image, which only a user's message may hold, not {role}'s")
    if image is None:
        raise _missing(f"{path}.image_url")
    if isinstance(image, str):
        return images.add_url(image, f"{path}.image_url")
    return images.add_url(image.url, f"{path}.image_url.url")


def _missing(path: str) -> FieldError:
    return FieldError(f"{path} is required", param=path, code="missing_required_parameter")
