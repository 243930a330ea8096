"""One generation request, as every dialect hands it to the engine."""

from __future__ import annotations

import msgspec

from shimmy.engine.types.lora import check_scales
from shimmy.engine.types.prompt import Prompt
from shimmy.engine.types.sampling import SamplingParams
from shimmy.errors import InvalidRequestError

MAX_STOPS = 64
MAX_LOGPROBS = 100
MAX_CHOICES = 256


class GenerateRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Generate from `prompt` until a stop string, an end token, `max_tokens` or the context's end.

    `max_tokens` None means no limit but the context; before `min_tokens` no end token is chosen and
    no stop string ends the text. Stop strings are never part of the text. `n` choices come from one
    evaluation of the prompt. `logprobs` asks for that many likeliest tokens beside each token of
    the answer (0: the token's own alone), `prompt_logprobs` for the same over the prompt.
    `cache_prompt` False computes the whole prompt anew. After `timeout` seconds a request that
    waits fails, and one that runs ends with reason `length`. `n_keep` first tokens of the prompt
    survive context shifts, where those are on. `lora` has scales by the adapters' numbers, 0 for
    those not named; None means the model's default scales.
    """

    prompt: Prompt
    sampling: SamplingParams = SamplingParams()
    max_tokens: int | None = None
    min_tokens: int = 0
    stop: list[str] = []
    stop_token_ids: list[int] = []
    n: int = 1
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    cache_prompt: bool = True
    timeout: float | None = None
    n_keep: int = 0
    lora: dict[int, float] | None = None

    def check(self) -> None:
        """Raise `InvalidRequestError` naming the first field that cannot be."""
        self.sampling.check()
        if self.max_tokens is not None and self.max_tokens < 0:
            raise InvalidRequestError(
                f"max_tokens must be 0 or more, got {self.max_tokens}", param="max_tokens"
            )
        if len(self.stop) > MAX_STOPS:
            raise InvalidRequestError(
                f"stop may hold up to {MAX_STOPS} strings, got {len(self.stop)}", param="stop"
            )
        if "" in self.stop:
            raise InvalidRequestError("stop must not hold an empty string", param="stop")
        check_scales(self.lora or {})
        self._check_bounds()

    def _check_bounds(self) -> None:
        for name, value, least, most in (
            ("n", self.n, 1, MAX_CHOICES),
            ("min_tokens", self.min_tokens, 0, 2**31 - 1),
            ("n_keep", self.n_keep, 0, 2**31 - 1),
            ("logprobs", self.logprobs, 0, MAX_LOGPROBS),
            ("prompt_logprobs", self.prompt_logprobs, 0, MAX_LOGPROBS),
        ):
            if value is not None and not least <= value <= most:
                raise InvalidRequestError(
                    f"{name} must be between {least} and {most}, got {value}", param=name
                )
        if self.timeout is not None and not 0 < self.timeout < float("inf"):
            raise InvalidRequestError(
                f"timeout must be more than 0 seconds, got {self.timeout}", param="timeout"
            )
