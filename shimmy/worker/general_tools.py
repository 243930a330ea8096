"""Tools for models whose template knows none: described in the system prompt, called in text.

The form is the one that most models with tools were trained on: JSON between `<tool_call>` tags.
The native side parses it, and its grammar holds the calls to the tools' schemas.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from shimmy.engine.types.prompt import Message

if TYPE_CHECKING:
    from shimmy.engine.types.prompt import Tool, ToolCall

_INTRODUCTION = """# Tools

You can call these functions, each described by a JSON object:
{tools}

To call {how_many}, answer with its name and arguments as a JSON object between tags:
<tool_call>
{{"name": "the function's name", "arguments": {{"the argument's name": "its value"}}}}
</tool_call>
The result comes back between <tool_response> tags."""


def with_tools(messages: list[Message], tools: list[Tool], *, parallel: bool) -> list[Message]:
    """Return the messages with `tools` described in the system prompt, calls and results as text.

    `parallel` allows more than one call in an answer.
    """
    out = as_text(messages)
    if not tools:
        return out
    described = "\n".join(msgspec.json.encode(tool).decode() for tool in tools)
    how_many = "one or several of them" if parallel else "one of them"
    text = _INTRODUCTION.format(tools=described, how_many=how_many)
    if out and out[0].role in ("system", "developer"):
        first = msgspec.structs.replace(out[0], content=f"{out[0].content}\n\n{text}")
        return [first, *out[1:]]
    return [Message(role="system", content=text), *out]


def as_text(messages: list[Message]) -> list[Message]:
    """Return the messages with calls and results written into their contents.

    Results that follow each other become one turn of the user: templates want turns to alternate.
    """
    out: list[Message] = []
    in_results = False
    for message in messages:
        if message.role == "tool":
            text = f"<tool_response>\n{message.content}\n</tool_response>"
            if in_results:
                text = f"{out.pop().content}\n{text}"
            out.append(Message(role="user", content=text))
        elif message.tool_calls:
            calls = "\n".join(map(_call, message.tool_calls))
            text = f"{message.content}\n{calls}" if message.content else calls
            out.append(msgspec.structs.replace(message, content=text, tool_calls=[]))
        else:
            out.append(message)
        in_results = message.role == "tool"
    return out


def _call(call: ToolCall) -> str:
    name = msgspec.json.encode(call.name).decode()
    return f'<tool_call>\n{{"name": {name}, "arguments": {call.arguments or "{}"}}}\n</tool_call>'
