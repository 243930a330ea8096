"""One request for text, from when it was understood to its end, as the server sees it."""

from __future__ import annotations

import asyncio
import time
from typing import Self

from shimmy.engine.types.event import Delta, Finished
from shimmy.errors import ShimmyError
from shimmy.server.metrics.counts import Counts
from shimmy.server.metrics.meter import Meter
from shimmy.server.sse import ClientGoneError

NO_MODEL = "none"
"""Stands for the model of requests that named none there is, or never got theirs."""


class Stopwatch:
    """Times one request; used as a context manager around all of it, so that every end counts."""

    __slots__ = ("_began", "_counts", "_ended", "_last", "_meter", "_n_choices", "_seen")

    def __init__(self, counts: Counts) -> None:
        """The time runs from here."""
        self._counts = counts
        self._meter: Meter | None = None
        self._began = time.perf_counter()
        self._n_choices = 1
        self._ended: str | None = None
        # by choice: when its last tokens came, and how many so far
        self._last: dict[int, float] = {}
        self._seen: dict[int, int] = {}

    def on(self, model: str, n_choices: int) -> None:
        """Note which model answers, with so many choices of each prompt."""
        self._meter = self._counts.meter(model)
        self._n_choices = n_choices

    def delta(self, event: Delta) -> None:
        """Take the time of new tokens. Runs for every token of every request: keep it cheap."""
        n_tokens, meter = event.n_tokens, self._meter
        if not n_tokens or meter is None:
            return  # a prompt that is repeated
        now = time.perf_counter()
        choice = event.choice
        last = self._last.get(choice)
        if last is not None:
            # several came at once: each took its share of the time
            meter.between_tokens.observe((now - last) / n_tokens, n_tokens)
            self._seen[choice] += n_tokens
        else:
            if not self._last:
                meter.first_token.observe(now - self._began)
            self._seen[choice] = n_tokens
        self._last[choice] = now
        meter.completion_tokens += n_tokens

    def finish(self, event: Finished) -> None:
        """Count the end of a choice; tokens that no text came of are in its usage only."""
        meter = self._meter
        if meter is None:
            return
        meter.completion_tokens += event.usage.completion_tokens - self._seen.get(event.choice, 0)
        meter.finish(event, with_prompt=event.choice % self._n_choices == 0)
        if event.last:
            self._ended = event.reason

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Count the request by how it ended."""
        meter = self._meter or self._counts.meter(NO_MODEL)
        meter.outcomes[self._ended or _outcome(error)] += 1
        meter.duration.observe(time.perf_counter() - self._began)


def _outcome(error: BaseException | None) -> str:
    if error is None or isinstance(error, (asyncio.CancelledError, ClientGoneError)):
        return "cancelled"
    return error.code if isinstance(error, ShimmyError) else ShimmyError.code
