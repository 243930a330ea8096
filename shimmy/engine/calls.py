"""Questions to a worker that have one answer, and who waits for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from shimmy.engine.types.frame import CallFailed, Cancel

if TYPE_CHECKING:
    from collections.abc import Callable

    from shimmy.engine.types.frame import Answer, Call
    from shimmy.errors import ShimmyError

AnswerT = TypeVar("AnswerT", bound="Answer")


class Calls:
    """The calls in flight to one worker. All methods on the event loop's thread."""

    def __init__(self, send: Callable[[Call | Cancel], None]) -> None:
        """`send` hands a command to the worker."""
        self._send = send
        self._waiting: dict[int, asyncio.Future[Answer]] = {}

    async def ask(self, command: Call, kind: type[AnswerT]) -> AnswerT:
        """Send `command` and return its answer, which is a `kind`; raise what the worker says.

        The worker is told when the caller leaves before.
        """
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[command.id] = future
        try:
            self._send(command)
            answer = await future
        except asyncio.CancelledError:
            self._send(Cancel(command.id))
            raise
        finally:
            del self._waiting[command.id]
        if not isinstance(answer, kind):
            raise TypeError(f"{type(command).__name__} was answered by {type(answer).__name__}")
        return answer

    def on_answer(self, report: Answer | CallFailed) -> None:
        """Wake the caller that `report` is for; it may have left."""
        future = self._waiting.get(report.id)
        if future is None or future.done():
            return
        if isinstance(report, CallFailed):
            future.set_exception(report.failure.error())
        else:
            future.set_result(report)

    def fail_all(self, error: ShimmyError) -> None:
        """End all calls with `error`: nobody will answer them."""
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(error)
