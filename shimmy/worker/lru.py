"""What was made last, by what it was made from."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

V = TypeVar("V")


class Lru(Generic[V]):
    """Keeps up to `n_items` values whose keys have up to `n_bytes` bytes in all. Thread: any."""

    def __init__(self, n_items: int, n_bytes: int) -> None:
        """The bounds are needed because the keys are the clients' choice."""
        self._n_items = n_items
        self._left = n_bytes
        self._lock = threading.Lock()
        self._kept: dict[bytes, V] = {}  # the last used at the end

    def find(self, key: bytes) -> V | None:
        """Return what was kept, if it is still there."""
        with self._lock:
            value = self._kept.pop(key, None)
            if value is not None:
                self._kept[key] = value
            return value

    def keep(self, key: bytes, value: V) -> None:
        """Keep a value; what has not been used for the longest time goes for it."""
        with self._lock:
            if self._kept.pop(key, None) is None:
                self._left -= len(key)
            self._kept[key] = value
            while self._left < 0 or len(self._kept) > self._n_items:
                oldest = next(iter(self._kept))
                del self._kept[oldest]
                self._left += len(oldest)
