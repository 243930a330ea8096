"""How the next token is chosen: llama.cpp's `common_params_sampling`, by its field names."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from shimmy.errors import InvalidRequestError

SAMPLERS = (
    "penalties",
    "dry",
    "top_n_sigma",
    "top_k",
    "typ_p",
    "top_p",
    "min_p",
    "xtc",
    "temperature",
    "adaptive_p",
)
"""Names that `SamplingParams.samplers` may hold (llama.cpp's own)."""

MAX_SEED = 2**32 - 1

# field: (smallest, largest), both allowed; llama.cpp aborts, throws or hangs outside of these.
_BOUNDS: dict[str, tuple[float, float]] = {
    "temperature": (0.0, 1000.0),
    "top_k": (-1, 2**31 - 1),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "typ_p": (0.0, 1.0),
    "top_n_sigma": (-1.0, 1e6),
    "xtc_probability": (0.0, 1.0),
    "xtc_threshold": (0.0, 1.0),
    "dynatemp_range": (0.0, 1000.0),
    "dynatemp_exponent": (0.0, 1000.0),
    "repeat_last_n": (-1, 2**20),
    "repeat_penalty": (1e-3, 1000.0),
    "presence_penalty": (-1000.0, 1000.0),
    "frequency_penalty": (-1000.0, 1000.0),
    "dry_multiplier": (0.0, 1000.0),
    "dry_base": (0.0, 1000.0),
    "dry_allowed_length": (0, 2**20),
    "dry_penalty_last_n": (-1, 2**20),
    "mirostat": (0, 2),
    "mirostat_tau": (0.0, 1000.0),
    "mirostat_eta": (0.0, 1000.0),
    "adaptive_target": (-1.0, 1.0),
    "adaptive_decay": (0.0, 0.99),
    "min_keep": (0, 2**20),
}


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Parameters of the sampler chain. `None` means the model's own advice, else llama.cpp's.

    `temperature` 0 takes the most likely token. `seed` makes a sampled text repeatable; without
    one each request draws its own. `logit_bias` adds to the logit of a token id (-inf bans it).
    `grammar` (GBNF) or `json_schema` constrains the answer, whatever the prompt is.
    """

    seed: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
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
    logit_bias: dict[int, float] = {}
    ignore_eos: bool = False
    grammar: str | None = None
    json_schema: dict[str, Any] | None = None

    def check(self) -> None:
        """Raise `InvalidRequestError` naming the first field that is out of its range."""
        for name, (low, high) in _BOUNDS.items():
            value = getattr(self, name)
            if value is not None and not (low <= value <= high):
                raise InvalidRequestError(
                    f"{name} must be between {low:g} and {high:g}, got {value!r}", param=name
                )
        if self.seed is not None and not 0 <= self.seed <= MAX_SEED:
            raise InvalidRequestError(
                f"seed must be between 0 and {MAX_SEED}, got {self.seed}", param="seed"
            )
        for name in self.samplers or ():
            if name not in SAMPLERS:
                raise InvalidRequestError(
                    f"samplers: unknown sampler {name!r}; known: {', '.join(SAMPLERS)}",
                    param="samplers",
                )
        if self.grammar is not None and self.json_schema is not None:
            raise InvalidRequestError(
                "grammar and json_schema both constrain the answer: give one of them",
                param="grammar",
            )
        for token, bias in self.logit_bias.items():
            if token < 0 or math.isnan(bias) or bias == math.inf:
                raise InvalidRequestError(
                    "logit_bias maps token ids to numbers (-inf bans a token), "
                    f"got {token}: {bias!r}",
                    param="logit_bias",
                )
