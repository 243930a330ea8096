"""One generation request, as every dialect hands it to the engine."""

from __future__ import annotations

import msgspec

from shimmy.engine.types.prompt import Prompt
from shimmy.engine.types.sampling import SamplingParams
from shimmy.errors import InvalidRequestError

MAX_STOPS = 64


class GenerateRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Generate from `prompt` until a stop string, an end token, `max_tokens` or the context's end.

    `max_tokens` None means no limit but the context. Stop strings are never part of the text.
    """

    prompt: Prompt
    sampling: SamplingParams = SamplingParams()
    max_tokens: int | None = None
    stop: list[str] = []

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
