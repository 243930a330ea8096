"""What ggml sees on this machine, asked of a worker that lives for the question only."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from shimmy.engine.process import ProcessTransport
from shimmy.engine.types.frame import CallFailed, Describe, Report, System
from shimmy.errors import BackendError

if TYPE_CHECKING:
    from shimmy.engine.types.info import SystemInfo

# the first time on a machine each backend is tried, and a driver may compile for a minute; trials end by themselves
_SECONDS = 600.0


class _Question:
    """Waits for one answer."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[SystemInfo] = asyncio.get_running_loop().create_future()

    def on_report(self, report: Report) -> None:
        if self.answer.done():
            return
        match report:
            case System(_, info):
                self.answer.set_result(info)
            case CallFailed(_, failure):
                self.answer.set_exception(failure.error())
            case _:
                pass

    def on_end(self, reason: str) -> None:
        if not self.answer.done():
            self.answer.set_exception(_DiedError(f"the worker that looks for devices {reason}"))


class _DiedError(BackendError):
    """The question killed the worker."""


async def describe_system(*, retry_backends: bool = False) -> SystemInfo:
    """Return the backends and devices of this machine and build.

    With `retry_backends`, those that failed their first use here are tried again.

    Raises:
        BackendError: the question killed the worker (a driver fault), or no backend loads.
    """
    try:
        return await _ask(retry=retry_backends, recheck=False)
    except _DiedError:
        # A driver that was sound when it was tried has broken since: new trials find out which, and leave it out.
        return await _ask(retry=True, recheck=True)


async def _ask(*, retry: bool, recheck: bool) -> SystemInfo:
    question = _Question()
    transport = ProcessTransport()
    await transport.start(question)
    try:
        transport.send(Describe(1, retry=retry, recheck=recheck))
        return await asyncio.wait_for(question.answer, _SECONDS)
    except TimeoutError:
        raise BackendError(f"no answer from the drivers within {_SECONDS:.0f} s") from None
    finally:
        await transport.close()
