"""A worker that lives for one question: nothing is loaded, and a fault in there is the question's alone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

from shimmy.engine.process import ProcessTransport
from shimmy.engine.types.frame import CallFailed, Planned, System
from shimmy.errors import EngineDeadError

if TYPE_CHECKING:
    from shimmy.engine.types.frame import Describe, Plan, Report

AnswerT = TypeVar("AnswerT", bound=Planned | System)


class _Listener(Generic[AnswerT]):
    """Waits for one answer."""

    def __init__(self, kind: type[AnswerT]) -> None:
        self._kind = kind
        self.answer: asyncio.Future[AnswerT] = asyncio.get_running_loop().create_future()

    def on_report(self, report: Report) -> None:
        if self.answer.done():
            return
        if isinstance(report, self._kind):
            self.answer.set_result(report)
        elif isinstance(report, CallFailed):
            self.answer.set_exception(report.failure.error())

    def on_end(self, reason: str) -> None:
        if not self.answer.done():
            self.answer.set_exception(EngineDeadError(f"the worker that was asked {reason}"))


async def ask(command: Describe | Plan, kind: type[AnswerT], *, seconds: float) -> AnswerT:
    """Start a worker, send it `command`, and return its answer, which is a `kind`.

    Raises:
        EngineDeadError: the question killed the worker, or none could be started.
        TimeoutError: there was no answer within `seconds`.
        ShimmyError: what the worker says.
    """
    listener = _Listener(kind)
    transport = ProcessTransport()
    try:
        await transport.start(listener)
    except OSError as error:
        raise EngineDeadError(f"the worker could not be started: {error}") from error
    try:
        transport.send(command)
        return await asyncio.wait_for(listener.answer, seconds)
    finally:
        await transport.close()
