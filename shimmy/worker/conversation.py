"""A conversation in OpenAI's form, which llama.cpp's chat code reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shimmy.worker.chat_checks import forced
from shimmy.worker.schema import usable

if TYPE_CHECKING:
    from shimmy.engine.types.prompt import ChatPrompt, Message, Tool


def conversation_json(prompt: ChatPrompt, messages: list[Message]) -> dict[str, Any]:
    """Return the conversation with `messages` in the place of its own; schema and tools go apart."""
    out: dict[str, Any] = {
        "messages": [_message(message) for message in messages],
        "tool_choice": "required" if forced(prompt) else prompt.tool_choice,
        "tool_name": prompt.tool_name or "",
        "parallel_tool_calls": prompt.parallel_tool_calls,
        "template_kwargs": prompt.template_kwargs,
        "continue_final": prompt.continue_final,
        "split_reasoning": prompt.split_reasoning,
    }
    thinking = prompt.enable_thinking
    if thinking is None and prompt.reasoning_budget == 0:
        thinking = False
    if thinking is not None:
        out["enable_thinking"] = thinking
    return out


def _message(message: Message) -> dict[str, Any]:
    out: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.reasoning is not None:
        out["reasoning_content"] = message.reasoning
    if message.tool_calls:
        out["tool_calls"] = [
            {
                "type": "function",
                "id": call.id,
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        out["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        out["name"] = message.name
    return out


def tool_json(tool: Tool) -> dict[str, Any]:
    """Return a tool whose parameters a grammar can hold.

    Raises:
        InvalidRequestError: its parameters are no schema, or too large.
    """
    name = f"tools: {tool.name}"
    parameters = usable(tool.parameters, name=name, param="tools", strict=False)
    function = {"name": tool.name, "description": tool.description, "parameters": parameters}
    return {"type": "function", "function": function}
