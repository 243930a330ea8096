"""OpenAI's tools, and the choice among them, as the engine's. The older functions too."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from shimmy.engine.types.prompt import Tool
from shimmy.server.dialects.chat_body import ChatBody, FunctionBody, ToolBody, ToolChoice
from shimmy.server.dialects.fields import check_tree, unsupported
from shimmy.server.errors import FieldError


@dataclass(frozen=True, slots=True, kw_only=True)
class Tooling:
    """What may be called, and whether something must be; `name` is the one that must."""

    tools: list[Tool] = field(default_factory=list)
    choice: Literal["auto", "none", "required"] = "auto"
    name: str | None = None


def tooling_of(body: ChatBody) -> Tooling:
    """Return what the model may call.

    Raises:
        FieldError: a tool cannot be taken, or the choice names one that is not there.
    """
    if not body.functions:
        if body.function_call is not None and body.function_call != "none":
            raise _bad("function_call", "function_call is set, but there are no functions")
        tools = [_tool(tool, f"tools[{i}]") for i, tool in enumerate(body.tools or ())]
        return _chosen(body.tool_choice, tools)
    for name in ("tools", "tool_choice"):
        if getattr(body, name) is not None:
            raise _bad("functions", f"give functions or {name}, not both")
    tools = [_function(function, f"functions[{i}]") for i, function in enumerate(body.functions)]
    choice = body.function_call or "auto"
    if isinstance(choice, str):
        return Tooling(tools=tools, choice=choice)
    return _named(choice.name, tools, "function_call.name")


def _tool(tool: ToolBody, path: str) -> Tool:
    if tool.type != "function":
        raise unsupported(f"{path}.type", f"{tool.type!r} is not supported; use 'function'")
    if tool.function is None:
        raise _missing(f"{path}.function")
    return _function(tool.function, f"{path}.function")


def _function(function: FunctionBody, path: str) -> Tool:
    if not function.name:
        raise _missing(f"{path}.name")
    parameters = function.parameters or {}
    check_tree(parameters, f"{path}.parameters")
    return Tool(name=function.name, description=function.description or "", parameters=parameters)


def _chosen(
    choice: Literal["auto", "none", "required"] | ToolChoice | None, tools: list[Tool]
) -> Tooling:
    if isinstance(choice, ToolChoice):
        return _by_name(choice, tools)
    if choice == "required" and not tools:
        raise _bad("tool_choice", "tool_choice is required, but there are no tools")
    return Tooling(tools=tools, choice=choice or "auto")


def _by_name(choice: ToolChoice, tools: list[Tool]) -> Tooling:
    if choice.type == "function":
        if choice.function is None:
            raise _missing("tool_choice.function")
        return _named(choice.function.name, tools, "tool_choice.function.name")
    allowed = choice.allowed_tools
    if allowed is None:
        raise _missing("tool_choice.allowed_tools")
    path = "tool_choice.allowed_tools.tools"
    if not allowed.tools:
        raise _bad(path, f"{path} must name at least one tool")
    names = {
        _known(tool.function.name, tools, f"{path}[{i}].function.name")
        for i, tool in enumerate(allowed.tools)
    }
    # the others are not shown to the model: what it has not seen it does not call
    return Tooling(tools=[tool for tool in tools if tool.name in names], choice=allowed.mode)


def _named(name: str, tools: list[Tool], path: str) -> Tooling:
    return Tooling(tools=tools, choice="required", name=_known(name, tools, path))


def _known(name: str, tools: list[Tool], path: str) -> str:
    known = [tool.name for tool in tools]
    if name not in known:
        raise _bad(path, f"{path} is {name!r}, but the tools are {known}")
    return name


def _bad(param: str, message: str) -> FieldError:
    return FieldError(message, param=param, code="invalid_value")


def _missing(path: str) -> FieldError:
    return FieldError(f"{path} is required", param=path, code="missing_required_parameter")
