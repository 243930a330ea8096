"""Turns and their content blocks, as the engine's messages."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from shimmy.engine.images import Images, check_media_type
from shimmy.engine.types.prompt import Message, ToolCall
from shimmy.server.dialects.fields import check_tree, unsupported
from shimmy.server.dialects.openai import encode_json
from shimmy.server.errors import FieldError


class Source(msgspec.Struct, kw_only=True):
    """What a document or an image is: documents of text and images in base64 are taken."""

    type: str = ""
    data: str | None = None
    media_type: str | None = None
    content: str | list[Block] | None = None


class Block(msgspec.Struct, kw_only=True):
    """A content block of any type; which of the fields count, `type` says."""

    type: str
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    id: str | None = None
    name: str | None = None
    input: dict[str, Any] | None = None
    tool_use_id: str | None = None
    content: str | list[Block] | None = None
    is_error: bool | None = None
    # a text where it says where a search result is from
    source: Source | str | None = None
    title: str | None = None
    context: str | None = None
    citations: Any = None


class Turn(msgspec.Struct, kw_only=True):
    """One message of the body."""

    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


def conversation(
    system: str | list[Block] | None, turns: list[Turn], images: Images
) -> list[Message]:
    """Return the messages; their images go to `images`.

    Turns of one role in a row become one, as Anthropic promises.

    Raises:
        FieldError: there are none, or a block cannot be taken; names which.
        ImageError: an image cannot be taken; names it.
    """
    if not turns:
        raise FieldError(
            "messages must hold at least one message", param="messages", code="invalid_messages"
        )
    said: list[Message] = []
    if system:
        said.append(Message(role="system", content=_text(system, "system")))
    names: dict[str, str] = {}
    for i, turn in enumerate(turns):
        for message in _messages(turn, f"messages[{i}].content", names, images):
            if said and message.role == said[-1].role and message.role in {"user", "assistant"}:
                message = _joined(said.pop(), message, images)
            said.append(message)
    return said


def _messages(turn: Turn, path: str, names: dict[str, str], images: Images) -> list[Message]:
    """Return what a turn says; `names` learns and tells which tool each call was of."""
    if turn.role == "assistant":
        return [_assistant(turn.content, path, names)]
    if turn.role == "system" or isinstance(turn.content, str):
        return [Message(role=turn.role, content=_text(turn.content, path))]
    return _user(turn.content, path, names, images)


def _user(blocks: list[Block], path: str, names: dict[str, str], images: Images) -> list[Message]:
    """Results are turns of their own to the templates; the order stays."""
    said: list[Message] = []
    texts: list[str] = []
    for i, block in enumerate(blocks):
        where = f"{path}[{i}]"
        if block.type != "tool_result":
            texts.append(_part(block, where, images))
            continue
        if texts:
            said.append(Message(role="user", content=images.join(texts)))
            texts = []
        said.append(_result(block, where, names, images))
    if texts or not said:
        said.append(Message(role="user", content=images.join(texts)))
    return said


def _result(block: Block, path: str, names: dict[str, str], images: Images) -> Message:
    call = _required(block.tool_use_id, f"{path}.tool_use_id")
    text = _text(block.content or "", f"{path}.content", images)
    if block.is_error and not text.lower().startswith("error"):
        # templates know no other way to say it
        text = f"Error: {text}"
    return Message(role="tool", content=text, tool_call_id=call, name=names.get(call))


def _assistant(content: str | list[Block], path: str, names: dict[str, str]) -> Message:
    if isinstance(content, str):
        return Message(role="assistant", content=content)
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[ToolCall] = []
    for i, block in enumerate(content):
        where = f"{path}[{i}]"
        if block.type == "thinking":
            thoughts.append(_required(block.thinking, f"{where}.thinking"))
        elif block.type == "tool_use":
            call = _call(block, where)
            names[call.id] = call.name
            calls.append(call)
        else:
            texts.append(_part(block, where))
    return Message(
        role="assistant",
        content="".join(texts),
        reasoning="".join(thoughts) or None,
        tool_calls=calls,
    )


def _call(block: Block, path: str) -> ToolCall:
    if block.input is None:
        _required(None, f"{path}.input")
    check_tree(block.input, f"{path}.input")
    return ToolCall(
        id=_required(block.id, f"{path}.id"),
        name=_required(block.name, f"{path}.name"),
        arguments=encode_json(block.input).decode(),
    )


def _text(content: str | list[Block], path: str, images: Images | None = None) -> str:
    """Return texts, and images where Anthropic lets them be: there `images` is given."""
    if isinstance(content, str):
        return content
    parts = [_part(block, f"{path}[{i}]", images) for i, block in enumerate(content)]
    return _joined_parts(parts, images)


def _joined_parts(parts: list[str], images: Images | None) -> str:
    return "\n".join(parts) if images is None else images.join(parts)


def _part(block: Block, path: str, images: Images | None = None) -> str:
    if block.type == "image":
        return _image(block.source, path, images)
    if block.type == "document":
        return _document(block, path, images)
    if block.type != "text":
        raise unsupported(
            path,
            f"is of type {block.type!r}, which is not supported here: texts and images are",
        )
    return _required(block.text, f"{path}.text")


def _image(source: Source | str | None, path: str, images: Images | None) -> str:
    if images is None:
        raise unsupported(path, "is of type 'image', which only users' messages and results hold")
    path = f"{path}.source"
    if not isinstance(source, Source):
        raise FieldError(
            f"{path} is required, with type, media_type and data",
            param=path,
            code="missing_required_parameter",
        )
    if source.type != "base64":
        raise unsupported(
            f"{path}.type",
            f"is {source.type!r}, and shimmy fetches nothing: send the image itself, as base64",
        )
    check_media_type(_required(source.media_type, f"{path}.media_type"), f"{path}.media_type")
    return images.add_base64(_required(source.data, f"{path}.data"), f"{path}.data")


def _document(block: Block, path: str, images: Images | None) -> str:
    """Return a document's title, context and text."""
    if isinstance(block.citations, dict) and block.citations.get("enabled"):
        raise unsupported(f"{path}.citations")
    source = block.source if isinstance(block.source, Source) else Source()
    if source.type == "text":
        text = _required(source.data, f"{path}.source.data")
    elif source.type == "content":
        text = _text(source.content or "", f"{path}.source.content", images)
    else:
        raise unsupported(
            path,
            f"is of type 'document' with a source of type {source.type!r}, which is not supported "
            "here: texts are",
        )
    parts = [part for part in (block.title, block.context, text) if part]
    return _joined_parts(parts, images)


def _required(value: str | None, path: str) -> str:
    if value is None:
        raise FieldError(f"{path} is required", param=path, code="missing_required_parameter")
    return value


def _joined(first: Message, second: Message, images: Images) -> Message:
    said = [content for content in (first.content, second.content) if content]
    return Message(
        role=first.role,
        # what a user adds is a new line; an answer that came in pieces is one text
        content=images.join(said) if first.role == "user" else "".join(said),
        reasoning=((first.reasoning or "") + (second.reasoning or "")) or None,
        tool_calls=[*first.tool_calls, *second.tool_calls],
    )
