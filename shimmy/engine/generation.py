"""A running request as its reader sees it: an async iterator that cancels when it is left."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from shimmy.engine.backlog import Backlog
from shimmy.engine.types.event import Accepted, Delta, Event, Failed, Finished, PromptScored
from shimmy.errors import ShimmyError, SlowReaderError

if TYPE_CHECKING:
    from collections.abc import Callable


class Generation:
    """Events of one request: `Accepted`, `Delta`s, a `Finished` per choice; errors are raised.

    Use it as `async with engine.generate(request) as generation: async for event in generation`.
    Leaving the block early cancels the request in the worker. One reader, on the loop's thread.
    A reader that falls far behind gets several deltas as one, and at last `SlowReaderError`.
    """

    def __init__(self, cancel: Callable[[], None]) -> None:
        """`cancel` tells the engine that nobody reads any more; called at most once."""
        self._cancel = cancel
        self._events = Backlog()
        self._waiter: asyncio.Future[None] | None = None
        self._tap: Callable[[Delta], bool] | None = None
        self._done = False

    def tap(self, take: Callable[[Delta], bool]) -> None:
        """Let `take` have each delta as it comes, where the reader waits for it: no task is woken.

        What it returns False for goes to the reader, and so does what it raises at. Thread: the loop's.
        """
        self._tap = take

    @property
    def n_queued(self) -> int:
        """Events that can be taken without waiting."""
        return len(self._events)

    def __aiter__(self) -> Self:
        """Return self."""
        return self

    async def __anext__(self) -> Accepted | PromptScored | Delta | Finished:
        """Return the next event; raise the request's error, or stop after the last `Finished`."""
        while not self._events:
            if self._done:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        event = self._events.take()
        if isinstance(event, Failed):
            raise event.error()
        if isinstance(event, ShimmyError):
            raise event
        return event

    async def __aenter__(self) -> Self:
        """Return self."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Cancel the request if it still runs."""
        self.close()

    def close(self) -> None:
        """Cancel the request if it still runs; idempotent."""
        if not self._done:
            self._done = True
            self._cancel()

    def put(self, event: Event) -> None:
        """Hand over an event. Thread: the loop's."""
        if self._done:
            return
        if self._tap is not None and isinstance(event, Delta) and self._tapped(self._tap, event):
            return
        if self._events.full and not ends(event):
            self._cancel()
            self.fail(
                SlowReaderError(
                    f"{len(self._events)} events wait to be read: read faster, or ask for less"
                )
            )
            return
        self._events.add(event)
        if ends(event):
            self._done = True
        self._wake()

    def fail(self, error: ShimmyError) -> None:
        """End it with an error that crossed no pipe, and so is still itself. Thread: the loop's."""
        if not self._done:
            self._events.add(error)
            self._done = True
            self._wake()

    def _tapped(self, take: Callable[[Delta], bool], event: Delta) -> bool:
        if self._waiter is None or self._waiter.done() or self._events:
            return False
        try:
            return take(event)
        except Exception:  # noqa: BLE001  whoever reads the event meets it too, and answers for it
            return False

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def ends(event: Event) -> bool:
    """Tell whether nothing follows `event` in its request."""
    return isinstance(event, Failed) or (isinstance(event, Finished) and event.last)
