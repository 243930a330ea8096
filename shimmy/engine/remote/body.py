"""A request as an OpenAI-compatible server reads it. What was not asked for is not sent."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from shimmy.engine.images import data_url
from shimmy.engine.types.prompt import (
    ChatPrompt,
    InfillPrompt,
    Message,
    Prompt,
    TextPrompt,
    TokenPrompt,
    Tool,
)
from shimmy.engine.types.request import GenerateRequest
from shimmy.engine.types.sampling import SamplingParams
from shimmy.errors import InvalidRequestError

# OpenAI's bound; every server takes it for "never".
_BANNED = -100.0
_RENAMED = {"typ_p": "typical_p"}
_PLAIN = ("min_tokens", "stop", "stop_token_ids", "timeout")


def body_of(request: GenerateRequest) -> tuple[str, dict[str, Any]]:
    """Return the path under /v1 and the JSON body of a streamed request, but for its `model`.

    Raises:
        InvalidRequestError: the API has no word for a field; names it.
    """
    if request.prompt_logprobs is not None:
        raise _no_word("prompt_logprobs")
    body: dict[str, Any] = {
        "stream": True,
        "stream_options": {"include_usage": True},
        **_prompt(request.prompt),
        **_sampling(request.sampling),
    }
    if request.max_tokens is not None:
        body["max_tokens"] = request.max_tokens
    body |= {name: value for name in _PLAIN if (value := getattr(request, name))}
    if request.n > 1:
        body["n"] = request.n
    if not request.cache_prompt:
        body["cache_prompt"] = False
    if request.lora is not None:
        body["lora"] = [{"id": i, "scale": scale} for i, scale in request.lora.items()]
    is_chat = isinstance(request.prompt, ChatPrompt)
    if request.logprobs is not None:
        body |= _logprobs(request.logprobs, is_chat=is_chat)
    return ("chat/completions" if is_chat else "completions"), body


def _prompt(prompt: Prompt) -> dict[str, Any]:
    match prompt:
        case ChatPrompt():
            return _chat(prompt)
        case TextPrompt(text, add_special, parse_special):
            if not (add_special and parse_special):
                raise _no_word("add_special" if parse_special else "parse_special")
            return {"prompt": text}
        case TokenPrompt(tokens):
            return {"prompt": tokens}
        case InfillPrompt():
            if prompt.extra:
                raise _no_word("extra")
            return {"prompt": prompt.prefix, "suffix": prompt.suffix}


def _chat(prompt: ChatPrompt) -> dict[str, Any]:
    for name, usual in (
        ("continue_final", False),
        ("reasoning_budget", None),
        ("split_reasoning", True),
    ):
        if getattr(prompt, name) != usual:
            raise _no_word(name)
    seen = _seen(prompt)
    messages = [_message(message, prompt.image_mark, seen) for message in prompt.messages]
    body: dict[str, Any] = {"messages": messages}
    if prompt.tools:
        body["tools"] = [_tool(tool) for tool in prompt.tools]
        body["tool_choice"] = prompt.tool_choice
        body["parallel_tool_calls"] = prompt.parallel_tool_calls
    if prompt.tool_name is not None:
        body["tool_choice"] = {"type": "function", "function": {"name": prompt.tool_name}}
    if prompt.json_schema is not None:
        body["response_format"] = _format(prompt.json_schema)
    kwargs = dict(prompt.template_kwargs)
    if prompt.enable_thinking is not None:
        kwargs["enable_thinking"] = prompt.enable_thinking
    if kwargs:
        body["chat_template_kwargs"] = kwargs
    return body


def _seen(prompt: ChatPrompt) -> Iterator[dict[str, Any]]:
    """Return the prompt's images as parts of a content."""
    mark = prompt.image_mark
    n_marks = sum(message.content.count(mark) for message in prompt.messages) if mark else 0
    if n_marks != len(prompt.images):
        raise InvalidRequestError(
            f"images: there are {len(prompt.images)}, and {n_marks} marks for them in the messages",
            param="images",
        )
    urls = [data_url(data, f"images[{i}]") for i, data in enumerate(prompt.images)]
    return iter([{"type": "image_url", "image_url": {"url": url}} for url in urls])


def _content(text: str, mark: str, seen: Iterator[dict[str, Any]]) -> str | list[dict[str, Any]]:
    if not mark or mark not in text:
        return text
    parts: list[dict[str, Any]] = []
    for i, piece in enumerate(text.split(mark)):
        if i:
            parts.append(next(seen))
        if piece:
            parts.append({"type": "text", "text": piece})
    return parts


def _message(message: Message, mark: str, seen: Iterator[dict[str, Any]]) -> dict[str, Any]:
    content = _content(message.content, mark, seen)
    body: dict[str, Any] = {"role": message.role, "content": content}
    if message.reasoning is not None:
        body["reasoning_content"] = message.reasoning
    if message.tool_calls:
        body["content"] = content or None
        body["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    for name in ("tool_call_id", "name"):
        if (value := getattr(message, name)) is not None:
            body[name] = value
    return body


def _tool(tool: Tool) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}


def _format(schema: dict[str, Any]) -> dict[str, Any]:
    if not schema:
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def _sampling(params: SamplingParams) -> dict[str, Any]:
    body: dict[str, Any] = {}
    for name in params.__struct_fields__:
        value = getattr(params, name)
        if value is None or value is False or value == {}:
            continue
        if name == "logit_bias":
            value = {
                str(token): max(bias, _BANNED) if bias == -math.inf else bias
                for token, bias in value.items()
            }
        body[_RENAMED.get(name, name)] = value
    return body


def _logprobs(n: int, *, is_chat: bool) -> dict[str, Any]:
    if not is_chat:
        return {"logprobs": n}
    return {"logprobs": True, "top_logprobs": n} if n else {"logprobs": True}


def _no_word(name: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"{name} cannot be asked of another server; load the model with Engine.solo or child",
        param=name,
    )
