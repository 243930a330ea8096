"""How much a model is asked: requests, their rate, when the last one came."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

WINDOW = 60
"""Seconds over which the rate is counted."""


class Usage:
    """Counts the requests for one model. Times in seconds: `now` counts up, `clock` is Unix time."""

    def __init__(
        self,
        *,
        now: Callable[[], float] = time.monotonic,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Nothing asked so far."""
        self.n_requests = 0
        self.last_used: float | None = None
        """Unix time of the last request's arrival or end."""
        self._now = now
        self._clock = clock
        # (second, requests in it); at most WINDOW + 1 of them
        self._seconds: deque[tuple[int, int]] = deque()

    def count(self) -> None:
        """Note one request."""
        self.n_requests += 1
        self.touch()
        second = int(self._now())
        n = self._seconds.pop()[1] if self._seconds and self._seconds[-1][0] == second else 0
        self._seconds.append((second, n + 1))
        self._forget()

    def touch(self) -> None:
        """Note that the model is in use now."""
        self.last_used = self._clock()

    @property
    def per_minute(self) -> int:
        """Requests of the last minute."""
        self._forget()
        return sum(n for _, n in self._seconds)

    def _forget(self) -> None:
        oldest = int(self._now()) - WINDOW
        while self._seconds and self._seconds[0][0] <= oldest:
            self._seconds.popleft()
