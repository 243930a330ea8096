"""What other threads ask of the engine's: tasks to run, to give up, calls, and the end."""

from __future__ import annotations

import queue
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from shimmy.worker.task import Task


@dataclass(frozen=True, slots=True)
class Add:
    """Run a prepared task."""

    task: Task


@dataclass(frozen=True, slots=True)
class Cancel:
    """Give a request up."""

    id: int


@dataclass(frozen=True, slots=True)
class Call:
    """Run a function, which must not raise."""

    function: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Stop:
    """End."""


Message = Add | Cancel | Call | Stop


class Inbox:
    """Messages in their order. Thread: any puts, the engine's takes."""

    def __init__(self, hold: Callable[[], None]) -> None:
        """`hold` lets no further step begin by itself: somebody wants to be heard first."""
        self._queue: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._hold = hold

    @property
    def empty(self) -> bool:
        """Whether there is nothing to take, as far as can be known."""
        return self._queue.empty()

    def put(self, message: Message) -> None:
        """Add a message."""
        self._queue.put(message)
        self._hold()

    def take(self, *, block: bool) -> Message | None:
        """Return the next message; None if there is none and it does not `block`."""
        try:
            return self._queue.get(block=block)
        except queue.Empty:
            return None
