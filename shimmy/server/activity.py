"""Requests that are being answered right now, and how long the server has been up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Activity:
    """Counts requests; `idle` is set while there are none. Thread: the loop's."""

    def __init__(self) -> None:
        self.n_active = 0
        self.idle = asyncio.Event()
        self.idle.set()
        self.draining = False
        """Whether the server is about to end: what would go on for ever must stop."""
        self._started = time.monotonic()

    @property
    def uptime(self) -> float:
        """Seconds since the application was made."""
        return time.monotonic() - self._started

    @contextmanager
    def request(self) -> Iterator[None]:
        """Count one request while the block runs."""
        self.n_active += 1
        self.idle.clear()
        try:
            yield
        finally:
            self.n_active -= 1
            if self.n_active == 0:
                self.idle.set()
