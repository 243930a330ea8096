"""Who uses a loaded model at the moment: it is freed when nobody does, not under somebody's hands."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Users:
    """The threads that use one model beside the engine's own, each between `enter` and `leave`. Thread: any.

    Native code cannot be interrupted, so the last one may leave late.
    """

    def __init__(self) -> None:
        """Nobody is in yet."""
        self._changed = threading.Condition()
        self._n = 0
        self._free: Callable[[], None] | None = None

    def enter(self) -> None:
        """Come in; the caller sees to it that this is not after `end`."""
        with self._changed:
            self._n += 1

    def leave(self) -> None:
        """Leave; the last one frees what `end` could not wait for."""
        with self._changed:
            self._n -= 1
            free = self._free if self._n == 0 else None
            self._changed.notify_all()
        if free is not None:
            free()

    def end(self, free: Callable[[], None], seconds: float) -> bool:
        """Call `free` once all have left: here within `seconds`, else (False) on the thread of the last."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._n == 0, seconds):
                self._free = free
                return False
        free()
        return True
