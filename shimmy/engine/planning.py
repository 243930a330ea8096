"""How a model would be loaded here, asked of a worker that lives for the question only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from shimmy.engine.blind import blinded
from shimmy.engine.question import ask
from shimmy.engine.types.frame import Plan, Planned
from shimmy.errors import EngineDeadError, LlamaError

if TYPE_CHECKING:
    from shimmy.engine.types.options import EngineOptions
    from shimmy.engine.types.plan import LoadPlan

# Each try reads the header again; a driver that is new here is tried first, which may take a minute.
_SECONDS = 600.0


async def plan_load(options: EngineOptions) -> LoadPlan:
    """Return what a load with these options would take and choose; nothing is loaded.

    A projector that was found and kills the worker is left out, as a load leaves it out.

    Raises:
        ModelLoadError, LlamaError: llama.cpp refuses the file.
        ConfigError: an option cannot be; it names the flag.
        EngineDeadError: the file or a driver killed the worker.
    """
    try:
        return await _ask(options)
    except EngineDeadError as error:
        if (without := blinded(options, error.message)) is None:
            raise
        options, note = without
        plan = await _ask(options)
        return msgspec.structs.replace(plan, changes=[*plan.changes, note])


async def _ask(options: EngineOptions) -> LoadPlan:
    try:
        return (await ask(Plan(1, options), Planned, seconds=_SECONDS)).plan
    except TimeoutError:
        raise LlamaError(f"no plan within {_SECONDS:.0f} s") from None
