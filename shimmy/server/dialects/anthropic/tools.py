"""Tools, and the choice among them, as the engine's."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from shimmy.engine.types.prompt import Tool
from shimmy.server.dialects.fields import Harmless, check_tree, one_of, unsupported
from shimmy.server.errors import FieldError


class ToolBody(msgspec.Struct, kw_only=True):
    """A tool of the client's; those that Anthropic runs, or defines, have another `type`."""

    name: str
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    # arguments always fit their schema here
    strict: bool | None = None

    # refused, see _REFUSED
    input_examples: list[Any] | None = None
    defer_loading: bool | None = None
    allowed_callers: list[str] | None = None


class ToolChoice(msgspec.Struct, kw_only=True):
    """How the model is to use its tools."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


_REFUSED: dict[str, Harmless] = {
    "input_examples": lambda value: not value,
    "defer_loading": one_of(False),
    "allowed_callers": lambda value: value == ["direct"],
}


def tools_of(bodies: list[ToolBody]) -> list[Tool]:
    """Return the tools.

    Raises:
        FieldError: one is not supported, has no schema, or has the name of another.
    """
    tools: list[Tool] = []
    for i, body in enumerate(bodies):
        tool = _tool(body, f"tools[{i}]")
        if any(tool.name == other.name for other in tools):
            raise FieldError(
                f"tools[{i}].name: there is another tool called {tool.name!r}",
                param=f"tools[{i}].name",
                code="invalid_value",
            )
        tools.append(tool)
    return tools


def _tool(body: ToolBody, path: str) -> Tool:
    if body.type not in {None, "custom"}:
        raise unsupported(
            f"{path}.type", f"{body.type!r} is not supported; use a tool with an input_schema"
        )
    for name, harmless in _REFUSED.items():
        value = getattr(body, name)
        if value is not None and not harmless(value):
            raise unsupported(f"{path}.{name}")
    if not body.name or body.input_schema is None:
        where = f"{path}.input_schema" if body.name else f"{path}.name"
        raise FieldError(f"{where} is required", param=where, code="missing_required_parameter")
    check_tree(body.input_schema, f"{path}.input_schema")
    return Tool(name=body.name, description=body.description or "", parameters=body.input_schema)


def choice_of(
    choice: ToolChoice | None, tools: list[Tool]
) -> tuple[Literal["auto", "none", "required"], str | None]:
    """Return the engine's choice, and the name of the one tool that must be called.

    Raises:
        FieldError: a call is asked for that no tool can answer.
    """
    if choice is None or choice.type == "auto":
        return "auto", None
    if choice.type == "none":
        return "none", None
    if not tools:
        raise FieldError(
            f"tool_choice is {choice.type!r}, but there are no tools",
            param="tool_choice",
            code="invalid_value",
        )
    if choice.type == "any":
        return "required", None
    if choice.name is None:
        raise FieldError(
            "tool_choice.name is required",
            param="tool_choice.name",
            code="missing_required_parameter",
        )
    if all(tool.name != choice.name for tool in tools):
        known = ", ".join(tool.name for tool in tools)
        raise FieldError(
            f"tool_choice.name: there is no tool called {choice.name!r}; there are: {known}",
            param="tool_choice.name",
            code="invalid_value",
        )
    return "required", choice.name
