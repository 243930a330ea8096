"""Rings when the time of something is over, on a thread of its own; whether it still matters, others know."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from shimmy.worker.deadlines import Deadlines

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

_LONGEST_SLEEP = 3600.0
"""In seconds; what a wait can take at most is the platform's."""


class Alarm:
    """Times by number. Thread: any."""

    def __init__(self, ring: Callable[[int], None]) -> None:
        """`ring` is called with the number, once; it may not raise. The thread starts with the first time."""
        self._ring = ring
        self._changed = threading.Condition()
        self._deadlines = Deadlines()
        self._started = False
        self._closed = False

    def __len__(self) -> int:
        """How many times are set, those of what is no more too."""
        return len(self._deadlines)

    def set(self, number: int, due: float, alive: Collection[int]) -> None:
        """Ring at `due`, in seconds of the monotonic clock; times of what is not `alive` may be forgotten."""
        with self._changed:
            if self._closed:
                return
            self._deadlines.tidy(alive)
            self._deadlines.add(number, due)
            if not self._started:
                self._started = True
                threading.Thread(target=self._watch, name="alarm", daemon=True).start()
            elif self._deadlines.first == due:
                self._changed.notify()

    def close(self) -> None:
        """Ring no more."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _watch(self) -> None:
        while True:
            with self._changed:
                if self._closed:
                    return
                now = time.monotonic()
                due = list(self._deadlines.take_due(now))
                if not due:
                    first = self._deadlines.first
                    self._changed.wait(None if first is None else min(first - now, _LONGEST_SLEEP))
            for number in due:
                self._ring(number)
