"""One model in memory: its engine, who uses it, and the tasks that load and close it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from shimmy.engine import Engine, EngineState
from shimmy.engine.types.info import ModelInfo
from shimmy.models.budget import Holding
from shimmy.models.entry import ModelEntry


@dataclass(eq=False, slots=True, kw_only=True)
class Resident:
    """A model that is loaded, being loaded or closed. Times are the loop's, in seconds.

    `kept` is one that was asked for by itself, not by a request: its load goes on when all who
    wait for it have left. One that is `leaving` (for good) or `yielding` (while another waits for
    its room) lets nobody in.
    """

    entry: ModelEntry
    engine: Engine
    loading: asyncio.Task[ModelInfo]
    need: int
    pinned: bool
    idle_unload: float
    since: float
    last_used: float
    kept: bool = False
    users: int = 0
    leaving: bool = False
    yielding: bool = False
    closing: asyncio.Task[None] | None = None
    timer: asyncio.TimerHandle | None = None
    launched: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when its worker is on its way, or will never be."""
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_dead(self) -> bool:
        """Whether it failed, and no request will be answered here."""
        if self.loading.done() and (self.loading.cancelled() or self.loading.exception()):
            return True
        return self.engine.state in {EngineState.FAILED, EngineState.CLOSED}

    @property
    def is_loaded(self) -> bool:
        """Whether requests can run now (a worker that restarts takes them too)."""
        return self.loading.done() and not self.is_dead and self.closing is None

    @property
    def admits(self) -> bool:
        """Whether a request may join, if only to wait for the load."""
        return not (self.leaving or self.yielding or self.is_dead) and self.closing is None

    @property
    def is_idle(self) -> bool:
        """Whether it could be closed now and nobody would notice."""
        return self.users == 0 and self.loading.done() and self.closing is None

    @property
    def holding(self) -> Holding:
        """What it takes of the budget."""
        return Holding(self.need, self.entry.size, not self.loading.done())

    def stop_timer(self) -> None:
        """Forget the idle unload: somebody came."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
