"""Items of a conversation: as they come in, as they are kept, and as the engine's messages."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from typing import Any, Literal, Protocol

import msgspec

from shimmy.engine.images import Images
from shimmy.engine.types.prompt import Message, ToolCall
from shimmy.server.dialects.fields import unsupported
from shimmy.server.dialects.partial_json import sent_back
from shimmy.server.errors import FieldError

_SEAL = "shimmy:"


class ContentPart(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A part of an item's content: of text, or of type `input_image`, a data: URL, from the user or a tool.

    The model's own way of seeing decides on the detail.
    """

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: str | None = None
    detail: Literal["auto", "low", "high", "original"] | None = None
    # refused: there are no files
    file_id: str | None = None
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None


class Item(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An item of any type; which of the fields count, `type` says. None is a message."""

    id: str | None = None
    type: str | None = None
    status: str | None = None
    role: Literal["user", "assistant", "system", "developer"] | None = None
    content: str | list[ContentPart] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | list[ContentPart] | None = None
    summary: list[ContentPart] | None = None
    encrypted_content: str | None = None


class KeptItems(Protocol):
    """Where items of earlier responses are."""

    def item(self, item_id: str) -> Item | None:
        """Return the item of that id, if it is still there."""


def items_of(given: str | list[Item] | None, kept: KeptItems) -> list[Item]:
    """Return the body's `input` as items in their full form, references replaced by what they mean.

    What their parts say is looked at by `messages_of`.

    Raises:
        FieldError: an item is of a type that is not supported, or incomplete; names it.
    """
    if isinstance(given, str):
        given = [Item(role="user", content=given)]
    return [_whole(item, f"input[{i}]", kept) for i, item in enumerate(given or ())]


def _whole(item: Item, path: str, kept: KeptItems) -> Item:
    if item.type == "item_reference":
        wanted = _required(item.id, f"{path}.id")
        found = kept.item(wanted)
        if found is None:
            raise FieldError(
                f"{path}.id: no item {wanted!r} is kept here (any more); send the item itself",
                param=f"{path}.id",
                code="item_not_found",
            )
        return found
    kind = item.type or "message"
    if kind == "message":
        return _whole_message(item, path)
    if kind == "function_call":
        for name in ("call_id", "name", "arguments"):
            _required(getattr(item, name), f"{path}.{name}")
    elif kind == "function_call_output":
        _required(item.call_id, f"{path}.call_id")
        if item.output is None:
            _required(None, f"{path}.output")
    elif kind != "reasoning":
        raise unsupported(f"{path}.type", f"{kind!r} is not supported here")
    return item


def _whole_message(item: Item, path: str) -> Item:
    role = _required(item.role, f"{path}.role")
    if item.content is None:
        _required(None, f"{path}.content")
    content = item.content
    if isinstance(content, str):
        kind = "output_text" if role == "assistant" else "input_text"
        content = [ContentPart(type=kind, text=content)]
    return msgspec.structs.replace(item, type="message", content=content)


def messages_of(
    instructions: str | None, items: Iterable[tuple[str, Item]], images: Images
) -> list[Message]:
    """Return the conversation; its images go to `images`.

    The items come with their places in the body, and are in their full form. What the assistant
    thought, said and called in a row is one message; so are system messages.

    Raises:
        FieldError: a part of an item cannot be taken; names it.
        ImageError: an image cannot be taken; names it.
    """
    said: list[Message] = []
    if instructions:
        said.append(Message(role="system", content=instructions))
    names: dict[str, str] = {}
    for path, item in items:
        message = _message(item, path, names, images)
        if said and message.role == said[-1].role and message.role in {"system", "assistant"}:
            message = _joined(said.pop(), message)
        said.append(message)
    return said


def _message(item: Item, path: str, names: dict[str, str], images: Images) -> Message:
    if item.type == "function_call":
        arguments = sent_back(item.arguments or "")
        call = ToolCall(id=item.call_id or "", name=item.name or "", arguments=arguments)
        names[call.id] = call.name
        return Message(role="assistant", tool_calls=[call])
    if item.type == "function_call_output":
        return Message(
            role="tool",
            content=_text(item.output, f"{path}.output", images),
            tool_call_id=item.call_id,
            name=names.get(item.call_id or ""),
        )
    if item.type == "reasoning":
        return Message(role="assistant", reasoning=_thoughts(item, path) or None)
    role = "system" if item.role == "developer" else str(item.role)
    seen = images if role == "user" else None
    return Message(role=role, content=_text(item.content, f"{path}.content", seen))


def _joined(first: Message, second: Message) -> Message:
    between = "\n\n" if first.role == "system" else ""
    return Message(
        role=first.role,
        content=first.content + between + second.content,
        reasoning=((first.reasoning or "") + (second.reasoning or "")) or None,
        tool_calls=[*first.tool_calls, *second.tool_calls],
    )


def _text(content: str | list[ContentPart] | None, path: str, images: Images | None) -> str:
    """Return texts, and images where OpenAI lets them be: there `images` is given."""
    if content is None or isinstance(content, str):
        return content or ""
    parts = [_part(part, f"{path}[{i}]", images) for i, part in enumerate(content)]
    return "\n".join(parts) if images is None else images.join(parts)


def _part(part: ContentPart, path: str, images: Images | None) -> str:
    if part.type == "input_image":
        return _image(part, path, images)
    if part.type in {"input_text", "output_text", "text"}:
        return _required(part.text, f"{path}.text")
    if part.type == "refusal":
        return _required(part.refusal, f"{path}.refusal")
    raise unsupported(
        path, f"is of type {part.type!r}, which is not supported here: texts and images are"
    )


def _image(part: ContentPart, path: str, images: Images | None) -> str:
    if images is None:
        raise unsupported(path, "is an image, which only users' messages and tools' results hold")
    if part.image_url is None and part.file_id is not None:
        raise unsupported(
            f"{path}.file_id",
            "names a file, and there are none here: send a data: URL as image_url",
        )
    return images.add_url(_required(part.image_url, f"{path}.image_url"), f"{path}.image_url")


def _thoughts(item: Item, path: str) -> str:
    """Return the reasoning of an item: its own text, what was sealed for a client, or a summary."""
    parts = item.content if isinstance(item.content, list) else []
    text = "".join(part.text or "" for part in parts if part.type == "reasoning_text")
    if text:
        return text
    if item.encrypted_content:
        return unseal(item.encrypted_content, f"{path}.encrypted_content")
    return "\n".join(part.text or "" for part in item.summary or ())


def seal(text: str) -> str:
    """Return reasoning as an `encrypted_content`, for clients that send it back and keep no text.

    It is not encrypted: the same text stands beside it in the item.
    """
    return _SEAL + base64.b64encode(text.encode()).decode()


def unseal(sealed: str, path: str) -> str:
    """Return what `seal` took.

    Raises:
        FieldError: another server made it.
    """
    try:
        if not sealed.startswith(_SEAL):
            raise ValueError
        return base64.b64decode(sealed.removeprefix(_SEAL), validate=True).decode()
    except (ValueError, binascii.Error):
        raise FieldError(
            f"{path} was not made by this server, which cannot read it; leave the item out",
            param=path,
            code="invalid_encrypted_content",
        ) from None


def _required(value: str | None, path: str) -> str:
    if value is None:
        raise FieldError(f"{path} is required", param=path, code="missing_required_parameter")
    return value
