"""How long to wait before a worker that died is replaced."""

from __future__ import annotations

FIRST_SECONDS = 0.1
MAX_SECONDS = 10.0


class Backoff:
    """At once the first time, then doubling; a request that was answered starts it over."""

    def __init__(self) -> None:
        """No death so far."""
        self._deaths = 0

    def worked(self) -> None:
        """Note that the worker did its work."""
        self._deaths = 0

    def next_delay(self) -> float:
        """Return the seconds to wait after one more death."""
        delay = 0.0 if self._deaths == 0 else FIRST_SECONDS * 2.0 ** (self._deaths - 1)
        self._deaths += 1
        return min(delay, MAX_SECONDS)
