"""A histogram that costs next to nothing to feed."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence


class Histogram:
    """Counts observations by upper bound. One thread."""

    __slots__ = ("_bounds", "_counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        """`bounds` ascend; what is above the last counts too."""
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self.total = 0.0
        """The sum of all observations."""

    def observe(self, value: float, n: int = 1) -> None:
        """Count `value`, `n` times."""
        self._counts[bisect_left(self._bounds, value)] += n
        self.total += value * n

    def cumulative(self) -> Iterator[tuple[float, int]]:
        """Yield each bound, infinity at last, and how many observations are not above it."""
        n = 0
        for bound, count in zip((*self._bounds, math.inf), self._counts, strict=True):
            n += count
            yield bound, n
