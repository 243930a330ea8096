"""The body of POST /v1/chat/completions, as the engine's request."""

from __future__ import annotations

import msgspec

from shimmy.engine.images import Images
from shimmy.engine.types.prompt import ChatPrompt, Message
from shimmy.server.dialects.chat_body import REFUSED, ChatBody
from shimmy.server.dialects.fields import MAX_INT, check_max_tokens, decode, refuse
from shimmy.server.dialects.generation import limit_of, request_of
from shimmy.server.dialects.messages import messages_of
from shimmy.server.dialects.openai import wants_usage
from shimmy.server.dialects.response_format import schema_of
from shimmy.server.dialects.template_kwargs import template_kwargs_of
from shimmy.server.dialects.tools import tooling_of
from shimmy.server.dialects.types import Call
from shimmy.server.errors import FieldError

MAX_TOP_LOGPROBS = 20
"""OpenAI's own limit."""

_decoder = msgspec.json.Decoder(ChatBody)


def parse(raw: bytes) -> Call:
    """Return what the body asks for.

    Raises:
        InvalidRequestError: it makes no sense, or is not supported; names the field.
    """
    body = decode(_decoder, raw)
    refuse(body, REFUSED)
    prompt = prompt_of(body)
    if prompt.json_schema is not None and body.grammar is not None:
        raise _bad(
            "grammar", "grammar and response_format both constrain the answer; give one of them"
        )
    request = request_of(
        body,
        prompt,
        _max_tokens(body),
        n=1 if body.n is None else body.n,
        logprobs=_logprobs(body),
    )
    # what makes no sense to the engine makes none here: n sizes what is kept for each choice
    request.check()
    return Call(
        model=body.model,
        prompt_field="messages",
        stream=bool(body.stream),
        include_usage=wants_usage(body.stream_options),
        request=request,
        extra="functions" if body.functions else None,
        names={"logprobs": "top_logprobs"},
    )


def prompt_of(body: ChatBody) -> ChatPrompt:
    """Return the conversation, and what is to be made of it."""
    tooling = tooling_of(body)
    kwargs, thinking = template_kwargs_of(body.chat_template_kwargs, body.reasoning_effort)
    images = Images()
    messages = messages_of(body.messages, images)
    return ChatPrompt(
        messages=messages,
        tools=tooling.tools,
        tool_choice=tooling.choice,
        tool_name=tooling.name,
        # an answer to `functions` has room for one call
        parallel_tool_calls=bool(body.tools) and body.parallel_tool_calls is not False,
        json_schema=schema_of(body.response_format),
        enable_thinking=thinking,
        template_kwargs=kwargs,
        continue_final=_continues(body, messages[-1]),
        reasoning_budget=_budget(body),
        split_reasoning=body.reasoning_format != "none",
        images=images.files,
        image_mark=images.mark,
    )


def _max_tokens(body: ChatBody) -> int | None:
    """The newer of the two fields wins where both are given."""
    old = limit_of(body.max_tokens, body.n_predict)
    new = check_max_tokens(body.max_completion_tokens, "max_completion_tokens")
    return old if new is None else new


def _logprobs(body: ChatBody) -> int | None:
    top = body.top_logprobs
    if top is not None and not 0 <= top <= MAX_TOP_LOGPROBS:
        raise _bad(
            "top_logprobs", f"top_logprobs must be between 0 and {MAX_TOP_LOGPROBS}, got {top}"
        )
    if body.logprobs:
        return top or 0
    if top:
        raise _bad("top_logprobs", "top_logprobs needs logprobs: true")
    return None


def _continues(body: ChatBody, last: Message) -> bool:
    """Tell whether the model goes on with the last message; it does with an assistant's, unasked."""
    wanted = body.continue_final_message
    if wanted and body.add_generation_prompt:
        raise _bad(
            "continue_final_message",
            "continue_final_message and add_generation_prompt exclude each other",
        )
    can = last.role == "assistant" and not last.tool_calls
    if wanted and not can:
        raise _bad(
            "continue_final_message",
            "continue_final_message needs a last message of the assistant, without tool calls",
        )
    if body.add_generation_prompt is False and (not can or wanted is False):
        raise _bad(
            "add_generation_prompt",
            "without add_generation_prompt the last message must be one of the assistant's to go on with",
        )
    return can and wanted is not False and not body.add_generation_prompt


def _budget(body: ChatBody) -> int | None:
    """Return the limit on reasoning in tokens; llama-server has three names for it, and -1 for none."""
    for name in ("reasoning_budget_tokens", "reasoning_budget", "thinking_budget_tokens"):
        budget: int | None = getattr(body, name)
        if budget is None:
            continue
        if not -1 <= budget <= MAX_INT:
            raise _bad(name, f"{name} must be -1 (no limit) or a number of tokens, got {budget}")
        return None if budget == -1 else budget
    return None


def _bad(param: str, message: str) -> FieldError:
    return FieldError(message, param=param, code="invalid_value")
