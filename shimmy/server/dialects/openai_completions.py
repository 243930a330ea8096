"""POST /v1/completions: raw text or tokens in, its continuation out."""

from __future__ import annotations

from typing import Any

import msgspec

from shimmy.engine.types.event import Delta, Finished
from shimmy.engine.types.prompt import TextPrompt, TokenPrompt
from shimmy.engine.types.request import GenerateRequest
from shimmy.server.dialects.fields import (
    MAX_INT,
    Harmless,
    check_max_tokens,
    decode,
    never,
    one_of,
    refuse,
    unsupported,
)
from shimmy.server.dialects.openai import (
    StreamOptions,
    encode_json,
    error_body,
    error_event,
    random_id,
    stops_of,
    timings_body,
    usage_body,
    wants_usage,
)
from shimmy.server.dialects.sampling import SamplingFields, sampling_of
from shimmy.server.dialects.types import Call, Head, Output
from shimmy.server.errors import FieldError, Problem
from shimmy.server.sse import DONE

__all__ = ["encode", "error_body", "new_id", "parse", "stream"]

DEFAULT_MAX_TOKENS = 16
"""OpenAI's own default for this endpoint."""


class CompletionBody(SamplingFields, kw_only=True):
    """All fields that are known. Others are accepted and mean nothing."""

    prompt: str | list[Any] | None = None
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    stop: str | list[str] | None = None
    user: str | None = None

    # refused, see _REFUSED
    n: int | None = None
    best_of: int | None = None
    logprobs: int | None = None
    echo: bool | None = None
    suffix: str | None = None
    response_format: dict[str, Any] | None = None


_REFUSED: dict[str, Harmless] = {
    "n": one_of(1),
    "best_of": one_of(1),
    "logprobs": never,
    "echo": one_of(False),
    "suffix": one_of(""),
    "response_format": lambda value: value == {"type": "text"},
}

_decoder = msgspec.json.Decoder(CompletionBody)


def parse(raw: bytes) -> Call:
    """Return what the body asks for.

    Raises:
        InvalidRequestError: it makes no sense, or is not supported; names the field.
    """
    body = decode(_decoder, raw)
    refuse(body, _REFUSED)
    limit = check_max_tokens(body.max_tokens, "max_tokens", least=0)
    return Call(
        model=body.model,
        prompt_field="prompt",
        stream=bool(body.stream),
        include_usage=wants_usage(body.stream_options),
        request=GenerateRequest(
            prompt=_prompt(body.prompt),
            sampling=sampling_of(body),
            max_tokens=DEFAULT_MAX_TOKENS if limit is None else limit,
            stop=stops_of(body.stop),
        ),
    )


def _prompt(prompt: str | list[Any] | None) -> TextPrompt | TokenPrompt:
    """Take a text, a list of one prompt, or a list of token ids."""
    if isinstance(prompt, list) and prompt and isinstance(prompt[0], str | list):
        if len(prompt) > 1:
            raise unsupported("prompt", "holds several prompts; send them one by one")
        prompt = prompt[0]
    if isinstance(prompt, str):
        return TextPrompt(prompt)
    if not prompt:
        raise _bad_prompt("prompt is required: a text or a list of token ids")
    for i, token in enumerate(prompt):
        # type(), because True is an int to isinstance
        if type(token) is not int or not 0 <= token <= MAX_INT:
            raise _bad_prompt(f"prompt[{i}] is no token id", f"prompt[{i}]")
    return TokenPrompt(prompt)


def _bad_prompt(message: str, param: str = "prompt") -> FieldError:
    return FieldError(message, param=param, code="invalid_prompt")


def new_id() -> str:
    """Return an id for an answer."""
    return random_id("cmpl-")


def encode(head: Head, output: Output) -> bytes:
    """Return a `text_completion` object."""
    end = output.end
    return encode_json(
        {
            "id": head.id,
            "object": "text_completion",
            "created": head.created,
            "model": head.model,
            "choices": [
                {
                    "text": output.text,
                    "index": 0,
                    "logprobs": None,
                    "finish_reason": end.reason,
                }
            ],
            "usage": usage_body(end.usage),
            "timings": timings_body(end),
        }
    )


def stream(call: Call, head: Head) -> CompletionStream:
    """Return the encoder of a stream of `text_completion` objects."""
    return CompletionStream(call, head)


class CompletionStream:
    """Objects of one answer, which share their beginning and their end."""

    def __init__(self, call: Call, head: Head) -> None:
        """Encode what every object begins and ends with."""
        self._include_usage = call.include_usage
        shared = encode_json(
            {
                "id": head.id,
                "object": "text_completion",
                "created": head.created,
                "model": head.model,
            }
        )
        self._null_usage = b',"usage":null' if call.include_usage else b""
        self._begin = b"data: " + shared[:-1]
        self._text = self._begin + b',"choices":[{"text":'
        self._reason = b',"index":0,"logprobs":null,"finish_reason":'
        self._text_end = self._reason + b"null}]" + self._null_usage + b"}\n\n"

    def opening(self) -> bytes:
        """Return nothing: there is no role to announce."""
        return b""

    def delta(self, delta: Delta) -> bytes:
        """Return one object for new text."""
        if not delta.text:
            return b""
        return self._text + encode_json(delta.text) + self._text_end

    def finish(self, finished: Finished) -> bytes:
        """Return the reason, the usage object if asked for, and [DONE]."""
        last = b'%b""%b%b}],"timings":%b%b}\n\n' % (
            self._text,
            self._reason,
            encode_json(finished.reason),
            encode_json(timings_body(finished)),
            self._null_usage,
        )
        if not self._include_usage:
            return last + DONE
        usage = encode_json(usage_body(finished.usage))
        return last + self._begin + b',"choices":[],"usage":' + usage + b"}\n\n" + DONE

    def error(self, problem: Problem) -> bytes:
        """Return the error event; no [DONE] follows it."""
        return error_event(problem)
