"""Fields that all generating endpoints take beside the samplers', and the engine's request."""

from __future__ import annotations

from typing import Any

import msgspec

from shimmy.engine.types.lora import MAX_SCALE
from shimmy.engine.types.prompt import Prompt
from shimmy.engine.types.request import GenerateRequest
from shimmy.server.dialects.fields import MAX_INT, Harmless, check_max_tokens, one_of, refuse
from shimmy.server.dialects.sampling import SamplingFields, sampling_of
from shimmy.server.errors import FieldError


class LoraScale(msgspec.Struct, kw_only=True):
    """How strongly an adapter is applied; those that are not listed are not."""

    id: int
    scale: float


class GenerationFields(SamplingFields, kw_only=True):
    """The fields as they stand in a body. Null is the same as absent; `timeout` in seconds."""

    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    min_tokens: int | None = None
    cache_prompt: bool | None = None
    timeout: float | None = None
    n_keep: int | None = None
    lora: list[LoraScale] | None = None

    # llama-server's, refused, see _REFUSED
    grammar_lazy: bool | None = None
    grammar_triggers: list[Any] | None = None
    n_cmpl: int | None = None
    n_discard: int | None = None
    n_probs: int | None = None
    parse_tool_calls: bool | None = None
    post_sampling_probs: bool | None = None
    reasoning_budget_message: str | None = None
    reasoning_control: bool | None = None
    return_progress: bool | None = None
    return_tokens: bool | None = None
    timings_per_token: bool | None = None


_REFUSED: dict[str, Harmless] = {
    "grammar_lazy": one_of(False),
    "grammar_triggers": lambda value: not value,
    "n_cmpl": one_of(1),
    "n_discard": one_of(0),
    "n_probs": one_of(0),
    "parse_tool_calls": one_of(True),
    "post_sampling_probs": one_of(False),
    "reasoning_budget_message": lambda value: not value,
    "reasoning_control": one_of(False),
    "return_progress": one_of(False),
    "return_tokens": one_of(False),
    "timings_per_token": one_of(False),
}


def request_of(
    body: GenerationFields,
    prompt: Prompt,
    max_tokens: int | None,
    *,
    n: int = 1,
    logprobs: int | None = None,
    prompt_logprobs: int | None = None,
) -> GenerateRequest:
    """Return the engine's request for `prompt`.

    Raises:
        InvalidRequestError: a value is out of its range, or a field is not supported; `param` is the
            field's name in the body.
    """
    refuse(body, _REFUSED)
    return GenerateRequest(
        prompt=prompt,
        sampling=sampling_of(body),
        max_tokens=max_tokens,
        min_tokens=body.min_tokens or 0,
        stop=stops_of(body.stop),
        stop_token_ids=token_ids(body.stop_token_ids or [], "stop_token_ids"),
        n=n,
        logprobs=logprobs,
        prompt_logprobs=prompt_logprobs,
        cache_prompt=body.cache_prompt is not False,
        timeout=body.timeout,
        n_keep=n_keep_of(body.n_keep),
        lora=None if body.lora is None else scales_of(body.lora, "lora"),
    )


def scales_of(listed: list[LoraScale], field: str) -> dict[int, float]:
    """Return scales by the adapters' numbers.

    Raises:
        FieldError: a number or scale cannot be, or a number is there twice; names which.
    """
    scales: dict[int, float] = {}
    for i, one in enumerate(listed):
        if not 0 <= one.id <= MAX_INT or one.id in scales:
            what = "is there twice" if one.id in scales else "must be 0 or more"
            raise FieldError(
                f"{field}[{i}].id {what}, got {one.id}",
                param=f"{field}[{i}].id",
                code="invalid_value",
            )
        if not -MAX_SCALE <= one.scale <= MAX_SCALE:
            raise FieldError(
                f"{field}[{i}].scale must be between {-MAX_SCALE:g} and {MAX_SCALE:g}, "
                f"got {one.scale}",
                param=f"{field}[{i}].scale",
                code="invalid_value",
            )
        scales[one.id] = one.scale
    return scales


def n_keep_of(n_keep: int | None) -> int:
    """Return how many tokens of the prompt a context shift leaves; llama-server's -1 is all of them.

    Raises:
        FieldError: it is less than that.
    """
    if n_keep is not None and not -1 <= n_keep <= MAX_INT:
        raise FieldError(
            f"n_keep must be -1 (all of the prompt) or a number of tokens, got {n_keep}",
            param="n_keep",
            code="invalid_value",
        )
    return MAX_INT if n_keep == -1 else n_keep or 0


def stops_of(stop: str | list[str] | None) -> list[str]:
    """Return the stop strings of a `stop` field."""
    if stop is None:
        return []
    return [stop] if isinstance(stop, str) else stop


def token_ids(tokens: list[int], field: str, *, code: str = "invalid_value") -> list[int]:
    """Return `tokens`, all of which could be ids of a vocabulary.

    Raises:
        FieldError: one cannot be; names which.
    """
    for i, token in enumerate(tokens):
        if not 0 <= token <= MAX_INT:
            raise FieldError(f"{field}[{i}] is no token id", param=f"{field}[{i}]", code=code)
    return tokens


def limit_of(max_tokens: int | None, n_predict: int | None, *, least: int = 1) -> int | None:
    """Return the limit by OpenAI's name or, where that is not given, by llama-server's, with its -1.

    Raises:
        FieldError: it is out of range; code `invalid_max_tokens`.
    """
    if max_tokens is None and n_predict != -1:
        return check_max_tokens(n_predict, "n_predict", least=least)
    return check_max_tokens(max_tokens, "max_tokens", least=least)
