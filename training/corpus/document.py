"""What the corpus is made of: conversations and plain texts. Knows nothing of tokens."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2

END_OF_TEXT = "<|endoftext|>"
TEMPLATE = Path(__file__).parent.parent / "template.jinja"

Pair = tuple[str, str]
Message = dict[str, Any]
Tool = dict[str, Any]


@dataclass(slots=True)
class Chat:
    """A conversation, in OpenAI's message format."""

    messages: list[Message]
    tools: list[Tool] = field(default_factory=list)


@dataclass(slots=True)
class Text:
    """A plain text that is no conversation."""

    text: str


Document = Chat | Text


def user(content: str) -> Message:
    """Return a user's message."""
    return {"role": "user", "content": content}


def assistant(content: str) -> Message:
    """Return the model's message."""
    return {"role": "assistant", "content": content}


def tool_call(name: str, arguments: dict[str, Any]) -> Message:
    """Return the model's message that calls one tool."""
    function = {"name": name, "arguments": arguments}
    return {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"type": "function", "function": function}],
    }


def tool_result(content: str) -> Message:
    """Return the message that carries a tool's result."""
    return {"role": "tool", "content": content}


def _to_json(value: object) -> str:
    """Write JSON as llama.cpp's Jinja engine does: spaces after `,` and `:`, nothing escaped."""
    return json.dumps(value, ensure_ascii=False)


def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=False)
    environment.filters["tojson"] = _to_json
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8"))


_TEMPLATE = _template()


def render(document: Document) -> str:
    """Return the exact text that the model sees, closed by the end-of-text token."""
    if isinstance(document, Text):
        return document.text + END_OF_TEXT
    return _TEMPLATE.render(messages=document.messages, tools=document.tools) + END_OF_TEXT
