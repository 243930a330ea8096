"""The body of POST /v1/completions, as the engine's requests: one for each of its prompts."""

from __future__ import annotations

from typing import Any

import msgspec

from shimmy.engine.types.prompt import InfillPrompt, Prompt, TextPrompt, TokenPrompt
from shimmy.server.dialects.fields import decode
from shimmy.server.dialects.generation import GenerationFields, limit_of, request_of, token_ids
from shimmy.server.dialects.openai import StreamOptions, wants_usage
from shimmy.server.dialects.response_format import ResponseFormat, schema_of
from shimmy.server.dialects.types import Call
from shimmy.server.errors import FieldError

DEFAULT_MAX_TOKENS = 16
"""OpenAI's own default for this endpoint."""

MAX_CHOICES = 256
"""Of one body, over all its prompts."""


class CompletionBody(GenerationFields, kw_only=True):
    """All fields that are known. Others are accepted and mean nothing."""

    prompt: str | list[str | int | list[int]] | None = None
    suffix: str | None = None
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    n_predict: int | None = None
    n: int | None = None
    best_of: int | None = None
    logprobs: int | None = None
    echo: bool | None = None
    response_format: ResponseFormat | None = None

    # of no effect on a local server
    user: str | None = None


_NAMES = {"prompt_logprobs": "logprobs"}
_NAMES_OF_FORMATS = {**_NAMES, "json_schema": "response_format"}

_decoder = msgspec.json.Decoder(CompletionBody)


def parse(raw: bytes) -> Call:
    """Return what the body asks for.

    Raises:
        InvalidRequestError: it makes no sense, or is not supported; names the field.
    """
    asked = decode(_decoder, raw)
    body = _constrained(asked)
    prompts = _prompts(body)
    echo = _echo(body, prompts)
    n, best = _choices(body, len(prompts))
    limit = limit_of(body.max_tokens, body.n_predict, least=0)
    default_limit = body.max_tokens is None and body.n_predict is None
    # the best are found by what their tokens were worth
    logprobs = 0 if best is not None and body.logprobs is None else body.logprobs
    scored = body.logprobs is not None or None in echo
    requests = [
        request_of(
            body,
            prompt,
            DEFAULT_MAX_TOKENS if default_limit else limit,
            n=n,
            logprobs=logprobs,
            prompt_logprobs=(body.logprobs or 0) if echo and scored else None,
        )
        for prompt in prompts
    ]
    # what makes no sense to the engine makes none here: n sizes what is kept for each choice
    requests[0].check()
    return Call(
        model=body.model,
        prompt_field="prompt",
        stream=bool(body.stream),
        include_usage=wants_usage(body.stream_options),
        request=requests[0],
        more=tuple(requests[1:]),
        echo=echo,
        best=best,
        extra="logprobs" if body.logprobs is not None else None,
        names=_NAMES if asked.json_schema is body.json_schema else _NAMES_OF_FORMATS,
        default_limit=default_limit,
    )


def _constrained(body: CompletionBody) -> CompletionBody:
    """Return the body with its response format, if there is one, as the schema that it stands for."""
    schema = schema_of(body.response_format)
    if schema is None:
        return body
    for name in ("grammar", "json_schema"):
        if getattr(body, name) is not None:
            raise _bad(
                name, f"{name} and response_format both constrain the answer; give one of them"
            )
    return msgspec.structs.replace(body, json_schema=schema or {"type": "object"})


def _prompts(body: CompletionBody) -> list[Prompt]:
    """Take a text, token ids, or a list of several of either."""
    prompt = body.prompt
    if prompt is None or prompt == []:
        raise _bad("prompt", "prompt is required: a text or a list of token ids", "invalid_prompt")
    if body.suffix:
        if not isinstance(prompt, str):
            raise _bad("suffix", "suffix takes a prompt that is one text")
        return [InfillPrompt(prefix=prompt, suffix=body.suffix)]
    if isinstance(prompt, str):
        return [TextPrompt(prompt)]
    if any(isinstance(each, int) for each in prompt):
        return [_tokens(prompt, "prompt")]
    return [
        TextPrompt(each) if isinstance(each, str) else _tokens(each, f"prompt[{i}]")
        for i, each in enumerate(prompt)
    ]


def _tokens(tokens: Any, path: str) -> TokenPrompt:
    if not tokens:
        raise _bad(path, f"{path} must not be empty", "invalid_prompt")
    for i, token in enumerate(tokens):
        if not isinstance(token, int):
            raise _bad(f"{path}[{i}]", f"{path}[{i}] is no token id", "invalid_prompt")
    return TokenPrompt(token_ids(tokens, path, code="invalid_prompt"))


def _echo(body: CompletionBody, prompts: list[Prompt]) -> tuple[str | None, ...]:
    """Return the prompts' texts, if they are to be repeated; None where the engine must say it."""
    if not body.echo:
        return ()
    if body.suffix:
        raise _bad("echo", "echo and suffix exclude each other")
    return tuple(prompt.text if isinstance(prompt, TextPrompt) else None for prompt in prompts)


def _choices(body: CompletionBody, n_prompts: int) -> tuple[int, int | None]:
    """Return how many choices to generate for each prompt, and how many of them to keep."""
    n = 1 if body.n is None else body.n
    most = max(n, body.best_of or 1)
    if n_prompts > 1 and most * n_prompts > MAX_CHOICES:
        raise _bad(
            "prompt",
            f"{n_prompts} prompts with {most} choices each are more than {MAX_CHOICES} in all; "
            "send them in several requests",
        )
    if body.best_of is None or body.best_of == n:
        return n, None
    if body.best_of < n:
        raise _bad("best_of", f"best_of must be at least n, which is {n}, got {body.best_of}")
    if body.stream:
        raise _bad("best_of", "best_of cannot be streamed: the best is known at the end")
    return body.best_of, n


def _bad(param: str, message: str, code: str = "invalid_value") -> FieldError:
    return FieldError(message, param=param, code=code)
