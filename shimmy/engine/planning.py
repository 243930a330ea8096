"""How a model would be loaded here, asked of a worker that lives for the question only."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from shimmy.engine.process import ProcessTransport
from shimmy.engine.types.frame import CallFailed, Plan, Planned, Report
from shimmy.errors import EngineDeadError, LlamaError

if TYPE_CHECKING:
    from shimmy.engine.types.options import EngineOptions
    from shimmy.engine.types.plan import LoadPlan

# Each try reads the header again; a driver that is new here is tried first, which may take a minute.
_SECONDS = 600.0


class _Question:
    """Waits for one answer."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[LoadPlan] = asyncio.get_running_loop().create_future()

    def on_report(self, report: Report) -> None:
        if self.answer.done():
            return
        match report:
            case Planned(_, plan):
                self.answer.set_result(plan)
            case CallFailed(_, failure):
                self.answer.set_exception(failure.error())
            case _:
                pass

    def on_end(self, reason: str) -> None:
        if not self.answer.done():
            self.answer.set_exception(EngineDeadError(f"the worker that plans {reason}"))


async def plan_load(options: EngineOptions) -> LoadPlan:
    """Return what a load with these options would take and choose; nothing is loaded.

    Raises:
        ModelLoadError, LlamaError: llama.cpp refuses the file.
        ConfigError: an option cannot be; it names the flag.
        EngineDeadError: the file or a driver killed the worker.
    """
    question = _Question()
    transport = ProcessTransport()
    await transport.start(question)
    try:
        transport.send(Plan(1, options))
        return await asyncio.wait_for(question.answer, _SECONDS)
    except TimeoutError:
        raise LlamaError(f"no plan within {_SECONDS:.0f} s") from None
    finally:
        await transport.close()
