"""Sampling fields that all generating endpoints take: OpenAI's, and llama.cpp's by its names."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from shimmy.engine.types.sampling import MAX_SEED, SamplingParams
from shimmy.errors import InvalidRequestError
from shimmy.server.dialects.fields import MAX_INT, check_tree
from shimmy.server.errors import FieldError


class SamplingFields(msgspec.Struct, kw_only=True):
    """The fields as they stand in a body. Null is the same as absent."""

    seed: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    typ_p: float | None = None
    top_n_sigma: float | None = None
    xtc_probability: float | None = None
    xtc_threshold: float | None = None
    dynatemp_range: float | None = None
    dynatemp_exponent: float | None = None
    repeat_last_n: int | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    dry_multiplier: float | None = None
    dry_base: float | None = None
    dry_allowed_length: int | None = None
    dry_penalty_last_n: int | None = None
    dry_sequence_breakers: list[str] | None = None
    mirostat: int | None = None
    mirostat_tau: float | None = None
    mirostat_eta: float | None = None
    adaptive_target: float | None = None
    adaptive_decay: float | None = None
    min_keep: int | None = None
    samplers: list[str] | None = None
    logit_bias: dict[str, float | bool] | list[tuple[int, float | bool]] | None = None
    ignore_eos: bool | None = None
    grammar: str | None = None
    json_schema: dict[str, Any] | None = None


# These need more than their name in the engine.
_TRANSLATED = {"seed", "typical_p", "typ_p", "logit_bias"}
_SAME = tuple(name for name in SamplingFields.__struct_fields__ if name not in _TRANSLATED)


def sampling_of(body: SamplingFields) -> SamplingParams:
    """Return the engine's parameters, checked.

    Raises:
        InvalidRequestError: a value is out of its range; `param` is the field's name in the body.
    """
    values: dict[str, Any] = {
        name: value for name in _SAME if (value := getattr(body, name)) is not None
    }
    check_tree(body.json_schema, "json_schema")
    values["seed"] = _seed(body.seed)
    values["typ_p"] = body.typ_p if body.typical_p is None else body.typical_p
    values["logit_bias"] = _logit_bias(body.logit_bias or {})
    params = SamplingParams(**values)
    try:
        params.check()
    except InvalidRequestError as error:
        if error.param == "typ_p" and body.typical_p is not None:
            message = error.message.replace("typ_p", "typical_p", 1)
            raise InvalidRequestError(message, param="typical_p") from error
        raise
    return params


def _seed(seed: int | None) -> int | None:
    """Fold OpenAI's 64-bit seeds into llama.cpp's 32 bits; its -1 asks for a random one."""
    if seed is None:
        return None
    if seed == -1:
        return MAX_SEED
    if -(2**63) <= seed < 2**63:
        # 2**32 - 1 is llama.cpp's mark for "random" and is never reached
        return seed % (2**32 - 1)
    return seed


def _logit_bias(
    biases: dict[str, float | bool] | list[tuple[int, float | bool]],
) -> dict[int, float]:
    """Read the token ids; llama.cpp's `false` bans a token, and its form may be a list of pairs."""
    if isinstance(biases, dict):
        pairs = [(_token(key), bias) for key, bias in biases.items()]
    else:
        pairs = biases
    found: dict[int, float] = {}
    for token, bias in pairs:
        if not 0 <= token <= MAX_INT:
            raise _bad_bias(f"maps token ids to numbers, {token} is no token id")
        if bias is True:
            raise _bad_bias("takes a number, or false to ban a token, got true")
        found[token] = -math.inf if bias is False else float(bias)
    return found


def _token(key: str) -> int:
    if not (key.isascii() and key.isdigit()) or len(key) > 10:
        raise _bad_bias(
            f"maps token ids to numbers, {key[:40]!r} is no token id; POST /tokenize has those of a text"
        )
    return int(key)


def _bad_bias(rule: str) -> FieldError:
    return FieldError(f"logit_bias {rule}", param="logit_bias", code="invalid_value")
