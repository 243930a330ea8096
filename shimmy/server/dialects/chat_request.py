"""The body of POST /v1/chat/completions, as the engine's request."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from shimmy.engine.types.prompt import ChatPrompt, Tool
from shimmy.engine.types.request import GenerateRequest
from shimmy.server.dialects.fields import (
    Harmless,
    check_max_tokens,
    check_tree,
    decode,
    never,
    one_of,
    refuse,
    unsupported,
)
from shimmy.server.dialects.messages import ChatMessage, messages_of
from shimmy.server.dialects.openai import StreamOptions, stops_of, wants_usage
from shimmy.server.dialects.sampling import SamplingFields, sampling_of
from shimmy.server.dialects.types import Call
from shimmy.server.errors import FieldError


class FunctionBody(msgspec.Struct, kw_only=True):
    """A function the model may call; `parameters` is a JSON schema."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ToolBody(msgspec.Struct, kw_only=True):
    """A tool; of its kinds, functions are taken."""

    type: str = "function"
    function: FunctionBody | None = None


class NamedSchema(msgspec.Struct, kw_only=True):
    """The `json_schema` of a response format."""

    name: str | None = None
    description: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class ResponseFormat(msgspec.Struct, kw_only=True):
    """What the answer must be; llama-server's `schema` beside `json_object` is taken too."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None
    schema: dict[str, Any] | None = None


class ChatBody(SamplingFields, kw_only=True):
    """All fields that are known. Others are accepted and mean nothing."""

    messages: list[ChatMessage]
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stop: str | list[str] | None = None
    tools: list[ToolBody] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None

    # of no effect on a local server
    user: str | None = None
    metadata: dict[str, Any] | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    # refused, see _REFUSED
    n: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    audio: dict[str, Any] | None = None
    modalities: list[str] | None = None
    functions: list[Any] | None = None
    function_call: str | dict[str, Any] | None = None
    prediction: dict[str, Any] | None = None
    store: bool | None = None
    verbosity: str | None = None
    web_search_options: dict[str, Any] | None = None


_REFUSED: dict[str, Harmless] = {
    "n": one_of(1),
    "logprobs": one_of(False),
    "top_logprobs": one_of(0),
    "audio": never,
    "modalities": lambda value: value == ["text"],
    "functions": lambda value: not value,
    "function_call": one_of("none"),
    "prediction": never,
    "store": one_of(False),
    "verbosity": one_of("medium"),
    "web_search_options": never,
}

_decoder = msgspec.json.Decoder(ChatBody)


def parse(raw: bytes) -> Call:
    """Return what the body asks for.

    Raises:
        InvalidRequestError: it makes no sense, or is not supported; names the field.
    """
    body = decode(_decoder, raw)
    refuse(body, _REFUSED)
    sampling = sampling_of(body)
    tools = [_tool(tool, f"tools[{i}]") for i, tool in enumerate(body.tools or ())]
    schema = _schema(body.response_format)
    if schema is not None and sampling.grammar is not None:
        raise FieldError(
            "grammar and response_format both constrain the answer; give one of them",
            param="grammar",
            code="invalid_value",
        )
    kwargs, thinking = _template_kwargs(body)
    prompt = ChatPrompt(
        messages=messages_of(body.messages),
        tools=tools,
        tool_choice=_tool_choice(body.tool_choice, tools),
        parallel_tool_calls=bool(body.parallel_tool_calls),
        json_schema=schema,
        enable_thinking=thinking,
        template_kwargs=kwargs,
    )
    return Call(
        model=body.model,
        prompt_field="messages",
        stream=bool(body.stream),
        include_usage=wants_usage(body.stream_options),
        request=GenerateRequest(
            prompt=prompt,
            sampling=sampling,
            max_tokens=_max_tokens(body),
            stop=stops_of(body.stop),
        ),
    )


def _max_tokens(body: ChatBody) -> int | None:
    """The newer of the two fields wins where both are given."""
    old = check_max_tokens(body.max_tokens, "max_tokens")
    new = check_max_tokens(body.max_completion_tokens, "max_completion_tokens")
    return old if new is None else new


def _tool(tool: ToolBody, path: str) -> Tool:
    if tool.type != "function":
        raise unsupported(f"{path}.type", f"{tool.type!r} is not supported; use 'function'")
    function = tool.function
    if function is None or not function.name:
        where = f"{path}.function" if function is None else f"{path}.function.name"
        raise FieldError(f"{where} is required", param=where, code="missing_required_parameter")
    parameters = function.parameters or {}
    check_tree(parameters, f"{path}.function.parameters")
    return Tool(name=function.name, description=function.description or "", parameters=parameters)


def _tool_choice(
    choice: str | dict[str, Any] | None, tools: list[Tool]
) -> Literal["auto", "none", "required"]:
    if isinstance(choice, dict):
        raise unsupported(
            "tool_choice", "that names a tool is not supported yet; use auto, none or required"
        )
    if choice is None or choice == "auto":
        return "auto"
    if choice == "none":
        return "none"
    if choice != "required":
        raise FieldError(
            f"tool_choice must be auto, none or required, got {choice!r}",
            param="tool_choice",
            code="invalid_value",
        )
    if not tools:
        raise FieldError(
            "tool_choice is required, but there are no tools",
            param="tool_choice",
            code="invalid_value",
        )
    return "required"


def _schema(form: ResponseFormat | None) -> dict[str, Any] | None:
    """Return the JSON schema that the answer must fit; {} is any object."""
    if form is None or form.type == "text":
        return None
    path = "response_format.schema"
    schema = form.schema
    if form.type == "json_schema":
        path = "response_format.json_schema.schema"
        schema = form.json_schema.schema if form.json_schema else form.schema
        if schema is None:
            raise FieldError(f"{path} is required", param=path, code="missing_required_parameter")
    check_tree(schema, path)
    return schema or {}


def _template_kwargs(body: ChatBody) -> tuple[dict[str, Any], bool | None]:
    """Return variables for the template, and whether the model is to think first.

    `reasoning_effort` "none" switches thinking off; other efforts are for the template to read.
    """
    kwargs = dict(body.chat_template_kwargs or {})
    check_tree(kwargs, "chat_template_kwargs")
    thinking = kwargs.pop("enable_thinking", None)
    if thinking is not None and not isinstance(thinking, bool):
        raise FieldError(
            "chat_template_kwargs.enable_thinking: expected `bool`",
            param="chat_template_kwargs.enable_thinking",
            code="invalid_type",
        )
    if body.reasoning_effort == "none":
        thinking = False
    elif body.reasoning_effort is not None:
        kwargs.setdefault("reasoning_effort", body.reasoning_effort)
    return kwargs, thinking
