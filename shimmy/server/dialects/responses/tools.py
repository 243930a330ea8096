"""Function tools, and the choice among them, as the engine's and as the response repeats them."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from shimmy.engine.types.prompt import Tool
from shimmy.server.dialects.fields import check_tree, unsupported
from shimmy.server.errors import FieldError

Choice = Literal["auto", "none", "required"]


class FunctionTool(msgspec.Struct, kw_only=True):
    """A tool; of its kinds, functions are taken. `parameters` is a JSON schema."""

    type: str
    name: str | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    # arguments always fit their schema here
    strict: bool | None = None
    defer_loading: bool | None = None


class ToolRef(msgspec.Struct, kw_only=True):
    """A tool by its name."""

    type: str
    name: str | None = None


class ToolChoice(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A choice that names tools: `function` one of them, `allowed_tools` several."""

    type: str
    name: str | None = None
    mode: Literal["auto", "required"] | None = None
    tools: list[ToolRef] | None = None


def tools_of(bodies: list[FunctionTool]) -> list[Tool]:
    """Return the tools.

    Raises:
        FieldError: one is not supported, or has no name.
    """
    return [_tool(body, f"tools[{i}]") for i, body in enumerate(bodies)]


def _tool(body: FunctionTool, path: str) -> Tool:
    if body.type != "function":
        raise unsupported(f"{path}.type", f"{body.type!r} is not supported; use 'function'")
    if body.defer_loading:
        raise unsupported(f"{path}.defer_loading")
    if not body.name:
        raise FieldError(
            f"{path}.name is required", param=f"{path}.name", code="missing_required_parameter"
        )
    parameters = body.parameters or {}
    check_tree(parameters, f"{path}.parameters")
    return Tool(name=body.name, description=body.description or "", parameters=parameters)


def echo_of(body: FunctionTool) -> dict[str, Any]:
    """Return a tool as the response repeats it."""
    return {
        "type": "function",
        "name": body.name,
        "description": body.description,
        "parameters": body.parameters,
        "strict": True if body.strict is None else body.strict,
    }


def choose(
    choice: str | ToolChoice | None, tools: list[Tool]
) -> tuple[Choice, str | None, list[Tool]]:
    """Return the engine's choice, the name of the tool that must be called, and the tools left.

    Raises:
        FieldError: the choice cannot be; names it.
    """
    if isinstance(choice, ToolChoice):
        return _named(choice, tools)
    if choice is None or choice == "auto":
        return "auto", None, tools
    if choice == "none":
        return "none", None, tools
    if choice != "required":
        raise _bad("tool_choice", f"must be auto, none or required, got {choice!r}")
    if not tools:
        raise _bad("tool_choice", "is required, but there are no tools")
    return "required", None, tools


def _named(choice: ToolChoice, tools: list[Tool]) -> tuple[Choice, str | None, list[Tool]]:
    if choice.type == "function":
        name = _known(choice.name, tools, "tool_choice.name")
        return "required", name, tools
    if choice.type != "allowed_tools":
        raise unsupported("tool_choice.type", f"{choice.type!r} is not supported; use 'function'")
    refs = choice.tools or []
    if not refs:
        raise _bad("tool_choice.tools", "must name at least one tool")
    names = {_known(ref.name, tools, f"tool_choice.tools[{i}].name") for i, ref in enumerate(refs)}
    return choice.mode or "auto", None, [tool for tool in tools if tool.name in names]


def _known(name: str | None, tools: list[Tool], path: str) -> str:
    if name is None:
        raise FieldError(f"{path} is required", param=path, code="missing_required_parameter")
    if all(tool.name != name for tool in tools):
        known = ", ".join(tool.name for tool in tools) or "none"
        raise _bad(path, f": there is no tool called {name!r}; there are: {known}")
    return name


def _bad(path: str, rule: str) -> FieldError:
    gap = "" if rule.startswith(":") else " "
    return FieldError(f"{path}{gap}{rule}", param=path, code="invalid_value")
