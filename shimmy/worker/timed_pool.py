"""A few threads for work that may take too long: then it is given up, and its thread replaced.

Native code cannot be interrupted. A thread that hangs in it is left behind, and ends when it returns.
"""

from __future__ import annotations

import queue
import threading
import time
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
        self._queue: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
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
            refused = self._n_stuck >= MAX_STUCK
            if not self._started:
                self._started = True
                for target in (self._watch, *[self._work] * self._n_threads):
                    self._start(target)
        if refused:
            late()
        else:
            self._queue.put(_Work(run, late))

    def close(self) -> None:
        """Forget what waits and let the threads end; one that hangs is not waited for."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        while not self._queue.empty():
            self._queue.get()
        for _ in range(self._n_threads):
            self._queue.put(None)

    def _start(self, target: Callable[[], None]) -> None:
        threading.Thread(target=target, name="prepare", daemon=True).start()

    def _work(self) -> None:
        while True:
            work = self._queue.get()
            if work is None:
                return
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
