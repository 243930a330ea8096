"""A few threads for work that may take too long: then it is given up, and its thread replaced.

Native code cannot be interrupted. A thread that hangs in it is left behind, and ends when it returns.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_STUCK = 16
"""Threads that may hang at a time; after that, work is refused instead of begun."""


@dataclass(slots=True, eq=False)
class _Work:
    run: Callable[[], None]
    late: Callable[[], None]
    began: float = 0.0
    given_up: bool = field(default=False)


class TimedPool:
    """Runs work on `n_threads` daemon threads, each for at most `seconds`. Thread: any."""

    def __init__(self, n_threads: int, seconds: float) -> None:
        """The threads start with the first work."""
        self._n_threads = n_threads
        self._seconds = seconds
        self._waiting: deque[_Work] = deque()
        # A thread that waits has a queue of its own: with one for all, they all woke up for each work.
        self._idle: list[queue.SimpleQueue[_Work | None]] = []
        self._changed = threading.Condition()
        self._running: list[_Work] = []
        self._n_stuck = 0
        self._started = False
        self._closed = False

    def submit(self, run: Callable[[], None], late: Callable[[], None]) -> None:
        """Call `run` on a thread; call `late` if it takes too long, or cannot be begun at all.

        Neither may raise. After `late`, what `run` still does must have no effect.
        """
        with self._changed:
            if self._closed:
                return
            if not self._started:
                self._started = True
                for target in (self._watch, *[self._work] * self._n_threads):
                    self._start(target)
            if self._n_stuck < MAX_STUCK:
                if self._idle:
                    # the one that waits for the shortest time: what it needs is still in a cache
                    self._idle.pop().put(_Work(run, late))
                else:
                    self._waiting.append(_Work(run, late))
                return
        late()

    def close(self) -> None:
        """Forget what waits and let the threads end; one that hangs is not waited for."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._waiting.clear()
            for idle in self._idle:
                idle.put(None)

    def _start(self, target: Callable[[], None]) -> None:
        threading.Thread(target=target, name="prepare", daemon=True).start()

    def _work(self) -> None:
        given: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        while (work := self._next(given)) is not None:
            with self._changed:
                work.began = time.monotonic()
                self._running.append(work)
                if len(self._running) == 1:
                    self._changed.notify_all()
            work.run()
            with self._changed:
                if work.given_up:
                    self._n_stuck -= 1
                    return
                self._running.remove(work)

    def _next(self, given: queue.SimpleQueue[_Work | None]) -> _Work | None:
        """Return what a thread does next, which waits with `given` until there is something; None at the end."""
        with self._changed:
            if self._closed:
                return None
            if self._waiting:
                return self._waiting.popleft()
            self._idle.append(given)
        return given.get()

    def _watch(self) -> None:
        """Give up what takes too long. Sleeps while nothing runs."""
        while True:
            with self._changed:
                while not self._running and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                limit = time.monotonic() - self._seconds
                late = [work for work in self._running if work.began <= limit]
                for work in late:
                    work.given_up = True
                    self._running.remove(work)
                    self._n_stuck += 1
                    self._start(self._work)
            for work in late:
                work.late()
            time.sleep(min(self._seconds / 4, 1.0))
