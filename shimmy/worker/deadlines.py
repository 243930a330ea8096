"""When requests must have ended, the soonest first. Thread: one at a time."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_STALE = 64
"""Deadlines of jobs that have ended which may lie about."""


class Deadlines:
    """A time for each job that has one, in seconds of the monotonic clock."""

    def __init__(self) -> None:
        """None yet."""
        self._heap: list[tuple[float, int]] = []

    def __len__(self) -> int:
        """How many there are, those of jobs that have ended too."""
        return len(self._heap)

    @property
    def first(self) -> float | None:
        """The soonest."""
        return self._heap[0][0] if self._heap else None

    def add(self, job_id: int, due: float) -> None:
        """Note that a job must have ended by `due`."""
        heappush(self._heap, (due, job_id))

    def is_due(self, now: float) -> bool:
        """Whether `take_due` would give out any."""
        return bool(self._heap) and self._heap[0][0] <= now

    def take_due(self, now: float) -> Iterator[int]:
        """Give out the jobs whose time is over, each once; some may have ended by themselves."""
        while self.is_due(now):
            yield heappop(self._heap)[1]

    def tidy(self, alive: Collection[int]) -> None:
        """Forget jobs that are not `alive`, once they are the most of what lies here."""
        if len(self._heap) > 2 * len(alive) + _STALE:
            self._heap = [one for one in self._heap if one[1] in alive]
            heapify(self._heap)
