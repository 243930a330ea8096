"""Turns and their content blocks, as the engine's messages."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from shimmy.engine.types.prompt import Message, ToolCall
from shimmy.server.dialects.fields import check_tree, unsupported
from shimmy.server.dialects.openai import encode_json
from shimmy.server.errors import FieldError


class Source(msgspec.Struct, kw_only=True):
    """What a document or an image is; documents of text are taken."""

    type: str = ""
    data: str | None = None
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


def conversation(system: str | list[Block] | None, turns: list[Turn]) -> list[Message]:
    """Return the messages. Turns of one role in a row become one, as Anthropic promises.

    Raises:
        FieldError: there are none, or a block cannot be taken; names which.
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
        for message in _messages(turn, f"messages[{i}].content", names):
            if said and message.role == said[-1].role and message.role in {"user", "assistant"}:
                message = _joined(said.pop(), message)
            said.append(message)
    return said


def _messages(turn: Turn, path: str, names: dict[str, str]) -> list[Message]:
    """Return what a turn says; `names` learns and tells which tool each call was of."""
    if turn.role == "assistant":
        return [_assistant(turn.content, path, names)]
    if turn.role == "system" or isinstance(turn.content, str):
        return [Message(role=turn.role, content=_text(turn.content, path))]
    return _user(turn.content, path, names)


def _user(blocks: list[Block], path: str, names: dict[str, str]) -> list[Message]:
    """Results are turns of their own to the templates; the order stays."""
    said: list[Message] = []
    texts: list[str] = []
    for i, block in enumerate(blocks):
        where = f"{path}[{i}]"
        if block.type != "tool_result":
            texts.append(_words(block, where))
            continue
        if texts:
            said.append(Message(role="user", content="\n".join(texts)))
            texts = []
        said.append(_result(block, where, names))
    if texts or not said:
        said.append(Message(role="user", content="\n".join(texts)))
    return said


def _result(block: Block, path: str, names: dict[str, str]) -> Message:
    call = _required(block.tool_use_id, f"{path}.tool_use_id")
    text = _text(block.content or "", f"{path}.content")
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
            texts.append(_words(block, where))
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


def _text(content: str | list[Block], path: str) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(_words(block, f"{path}[{i}]") for i, block in enumerate(content))


def _words(block: Block, path: str) -> str:
    if block.type == "document":
        return _document(block, path)
    if block.type != "text":
        raise unsupported(
            path, f"is of type {block.type!r}, which is not supported here: this model takes text"
        )
    return _required(block.text, f"{path}.text")


def _document(block: Block, path: str) -> str:
    """Return a document's title, context and text."""
    if isinstance(block.citations, dict) and block.citations.get("enabled"):
        raise unsupported(f"{path}.citations")
    source = block.source if isinstance(block.source, Source) else Source()
    if source.type == "text":
        text = _required(source.data, f"{path}.source.data")
    elif source.type == "content":
        text = _text(source.content or "", f"{path}.source.content")
    else:
        raise unsupported(
            path,
            f"is of type 'document' with a source of type {source.type!r}, which is not supported "
            "here: this model takes text",
        )
    return "\n".join(part for part in (block.title, block.context, text) if part)


def _required(value: str | None, path: str) -> str:
    if value is None:
        raise FieldError(f"{path} is required", param=path, code="missing_required_parameter")
    return value


def _joined(first: Message, second: Message) -> Message:
    # what a user adds is a new line; an answer that came in pieces is one text
    between = "\n" if first.role == "user" and first.content and second.content else ""
    return Message(
        role=first.role,
        content=first.content + between + second.content,
        reasoning=((first.reasoning or "") + (second.reasoning or "")) or None,
        tool_calls=[*first.tool_calls, *second.tool_calls],
    )
