"""POST /v1/embeddings: texts or tokens in, a vector for each out."""

from __future__ import annotations

import base64
import math
import sys
from array import array
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from shimmy.engine.types.frame import Embedded
from shimmy.engine.types.prompt import TextPrompt, TokenPrompt
from shimmy.server.dialects.fields import decode
from shimmy.server.dialects.generation import token_ids
from shimmy.server.dialects.openai import encode_json
from shimmy.server.errors import FieldError

MAX_INPUTS = 2048
"""OpenAI's own limit."""


class EmbeddingBody(msgspec.Struct, kw_only=True):
    """All fields that are known. Others are accepted and mean nothing."""

    input: str | list[str | int | list[int]]
    model: str | None = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None

    # of no effect on a local server
    user: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingCall:
    """A body, understood. `dimensions` None keeps all that the model has."""

    model: str | None
    inputs: list[TextPrompt | TokenPrompt]
    base64: bool
    dimensions: int | None


_decoder = msgspec.json.Decoder(EmbeddingBody)


def parse(raw: bytes) -> EmbeddingCall:
    """Return what the body asks for.

    Raises:
        FieldError: it makes no sense; names the field.
    """
    body = decode(_decoder, raw)
    if body.dimensions is not None and body.dimensions < 1:
        raise _bad("dimensions", f"dimensions must be at least 1, got {body.dimensions}")
    return EmbeddingCall(
        model=body.model,
        inputs=_inputs(body.input),
        base64=body.encoding_format == "base64",
        dimensions=body.dimensions,
    )


def _inputs(given: str | list[str | int | list[int]]) -> list[TextPrompt | TokenPrompt]:
    if isinstance(given, str):
        return [_text(given, "input")]
    if not given:
        raise _bad("input", "input must not be empty")
    if any(isinstance(each, int) for each in given):
        return [_tokens(given, "input")]
    if len(given) > MAX_INPUTS:
        raise _bad("input", f"input may hold up to {MAX_INPUTS} texts, got {len(given)}")
    return [
        _text(each, f"input[{i}]") if isinstance(each, str) else _tokens(each, f"input[{i}]")
        for i, each in enumerate(given)
    ]


def _text(text: str, path: str) -> TextPrompt:
    if not text:
        raise _bad(path, f"{path} must not be empty")
    # words that look like control tokens are words here
    return TextPrompt(text, parse_special=False)


def _tokens(tokens: Any, path: str) -> TokenPrompt:
    if not tokens:
        raise _bad(path, f"{path} must not be empty")
    for i, token in enumerate(tokens):
        if not isinstance(token, int):
            raise _bad(f"{path}[{i}]", f"{path}[{i}] is no token id")
    return TokenPrompt(token_ids(tokens, path))


def encode(call: EmbeddingCall, model: str, embedded: Embedded) -> bytes:
    """Return a `list` of `embedding` objects, in the order of the inputs.

    Raises:
        FieldError: the model has fewer dimensions than were asked for.
    """
    n_tokens = sum(embedded.n_tokens)
    return encode_json(
        {
            "object": "list",
            "data": [
                {"object": "embedding", "index": i, "embedding": _vector(call, vector)}
                for i, vector in enumerate(embedded.vectors)
            ],
            "model": model,
            "usage": {"prompt_tokens": n_tokens, "total_tokens": n_tokens},
        }
    )


def _vector(call: EmbeddingCall, raw: bytes) -> str | list[float]:
    """Return a vector in the form that was asked for: numbers, or base64 of float32s."""
    if call.base64 and call.dimensions is None:
        return base64.b64encode(raw).decode()
    vector = _swapped(array("f", raw))
    if call.dimensions is not None:
        vector = _shorter(vector, call.dimensions)
    if call.base64:
        return base64.b64encode(_swapped(vector).tobytes()).decode()
    return vector.tolist()


def _swapped(vector: array[float]) -> array[float]:
    """Turn this machine's order of bytes into little-endian, or back."""
    if sys.byteorder == "big":
        vector.byteswap()
    return vector


def _shorter(vector: array[float], n: int) -> array[float]:
    """Return the first `n` numbers, brought back to length 1."""
    if n > len(vector):
        raise _bad("dimensions", f"dimensions may be up to {len(vector)} for this model, got {n}")
    length = math.hypot(*vector[:n])
    return array("f", [x / length for x in vector[:n]] if length > 0 else vector[:n])


def _bad(param: str, message: str) -> FieldError:
    return FieldError(message, param=param, code="invalid_value")
