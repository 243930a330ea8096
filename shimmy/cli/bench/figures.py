"""Figures from clocks: one request, a round of requests sent at once, all rounds at a concurrency.

Pure. Times are seconds of one monotonic clock (`time.perf_counter` of the measuring process).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One request that was answered.

    `events` are the (time, tokens) at which text came; `ended` is when the last event was read.
    `prompt_began` and `prompt_ended` bound the work on the prompt, as far as the target knows it.
    `completion_tokens` is the target's own count; `prompt_tokens` None means it gave none.
    """

    sent: float
    events: tuple[tuple[float, int], ...]
    ended: float
    prompt_began: float
    prompt_ended: float | None
    prompt_tokens: int | None
    cached_tokens: int
    completion_tokens: int

    @property
    def ttft(self) -> float | None:
        """Time to first token: from sending to the first text; None if no text came."""
        return self.events[0][0] - self.sent if self.events else None

    @property
    def token_gaps(self) -> list[float]:
        """Inter-token latencies: each gap between two events, divided by the later one's tokens.

        Where the target's count is higher than what the events say they hold (several tokens in an
        event, or characters that took several tokens), every event is taken to hold more by the
        same factor.
        """
        in_events = sum(n for _, n in self.events)
        factor = max(1.0, self.completion_tokens / in_events) if in_events else 1.0
        return [(b - a) / (n * factor) for (a, _), (b, n) in pairwise(self.events)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """Requests that were sent at the same time: those answered, and the errors of the others."""

    samples: tuple[Sample, ...]
    errors: tuple[str, ...] = ()

    @property
    def seconds(self) -> float | None:
        """From the first request's sending to the end of the last; None if none was answered."""
        if not self.samples:
            return None
        return max(s.ended for s in self.samples) - min(s.sent for s in self.samples)

    @property
    def prompt_rate(self) -> float | None:
        """Prompt tokens per second: those not cached, of all requests, over the time they took.

        The time runs from the first prompt's begin to the last prompt's end. None without counts.
        """
        done = [s for s in self.samples if s.prompt_tokens is not None]
        ends = [s.prompt_ended for s in done if s.prompt_ended is not None]
        if len(ends) < len(self.samples) or not ends:
            return None
        tokens = sum((s.prompt_tokens or 0) - s.cached_tokens for s in done)
        return _rate(tokens, max(ends) - min(s.prompt_began for s in done))

    @property
    def generation_rate(self) -> float | None:
        """Generated tokens per second, of all requests, each one's first token left out.

        The time runs from the first text of any request to the end of the last one: while others'
        prompts are still being computed in it, that counts against the rate.
        """
        done = [s for s in self.samples if s.events]
        if not done:
            return None
        tokens = sum(s.completion_tokens - 1 for s in done)
        return _rate(tokens, max(s.ended for s in done) - min(s.events[0][0] for s in done))


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """All rounds at one concurrency."""

    concurrency: int
    rounds: tuple[Round, ...]

    @property
    def n_failed(self) -> int:
        """Requests that were not answered."""
        return sum(len(r.errors) for r in self.rounds)

    @property
    def prompt_rate(self) -> Spread | None:
        """Prompt tokens per second over the rounds."""
        return Spread.of(r.prompt_rate for r in self.rounds)

    @property
    def generation_rate(self) -> Spread | None:
        """Generated tokens per second over the rounds."""
        return Spread.of(r.generation_rate for r in self.rounds)

    @property
    def ttft(self) -> Percentiles | None:
        """Time to first token over all requests of all rounds, in seconds."""
        times = [s.ttft for r in self.rounds for s in r.samples]
        return Percentiles.of([time for time in times if time is not None])

    @property
    def itl(self) -> Percentiles | None:
        """Inter-token latency over all gaps of all requests of all rounds, in seconds."""
        return Percentiles.of([gap for r in self.rounds for s in r.samples for gap in s.token_gaps])


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The middle of repeated measurements, and how far they lie apart."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Spread | None:
        """Return the spread of those that are there; None if none is."""
        known = [value for value in values if value is not None]
        if not known:
            return None
        return cls(median=median(known), min=min(known), max=max(known))


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """The middle of a distribution, and what one in twenty exceeds."""

    p50: float
    p95: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Percentiles | None:
        """Return the percentiles of `values`; None if there are none."""
        if not values:
            return None
        return cls(p50=percentile(values, 50), p95=percentile(values, 95))


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the percentile, interpolated between the two nearest values (numpy's default)."""
    ordered = sorted(values)
    position = (len(ordered) - 1) * percent / 100
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def _rate(tokens: int, seconds: float) -> float | None:
    return tokens / seconds if tokens > 0 and seconds > 0 else None
