"""What ggml sees on this machine, asked of a worker that lives for the question only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shimmy.engine.question import ask
from shimmy.engine.types.frame import Describe, System
from shimmy.errors import BackendError, EngineDeadError

if TYPE_CHECKING:
    from shimmy.engine.types.info import SystemInfo

# the first time on a machine each backend is tried, and a driver may compile for a minute; trials end by themselves
_SECONDS = 600.0


async def describe_system(*, retry_backends: bool = False) -> SystemInfo:
    """Return the backends and devices of this machine and build.

    With `retry_backends`, those that failed their first use here are tried again.

    Raises:
        BackendError: the question killed the worker (a driver fault), or no backend loads.
    """
    try:
        return await _ask(retry=retry_backends, recheck=False)
    except EngineDeadError:
        pass
    # A driver that was sound when it was tried has broken since: new trials find out which, and leave it out.
    try:
        return await _ask(retry=True, recheck=True)
    except EngineDeadError as error:
        raise BackendError(f"looking for devices: {error.message}") from None


async def _ask(*, retry: bool, recheck: bool) -> SystemInfo:
    try:
        command = Describe(1, retry=retry, recheck=recheck)
        return (await ask(command, System, seconds=_SECONDS)).info
    except TimeoutError:
        raise BackendError(f"no answer from the drivers within {_SECONDS:.0f} s") from None
