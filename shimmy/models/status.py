"""What a model is doing, as values: for the status pages and the event stream."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from shimmy.engine import EngineState
from shimmy.engine.types.info import DevicePlacement
from shimmy.errors import ShimmyError
from shimmy.models.entry import ModelEntry
from shimmy.models.queue import Party
from shimmy.models.resident import Resident
from shimmy.models.usage import Usage

State = Literal["unloaded", "queued", "loading", "loaded", "restarting", "unloading", "failed"]


class ModelStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One model now. `last_used` in Unix seconds, `idle_unload` in seconds (None: it stays).

    `in_flight` requests have the model, `queued` ones wait: for its load, for room, or for a slot.
    `need` is about how many bytes it takes; `error` why it does not load; `placement` what of it lies
    on which device. `projector` is the file through which it is to see images, `vision` whether it
    does; None: that is known once it is loaded. `notes` say what was loaded otherwise than it could be.
    """

    entry: ModelEntry
    projector: str | None = None
    state: State = "unloaded"
    progress: float = 0.0
    pinned: bool = False
    in_flight: int = 0
    queued: int = 0
    n_requests: int = 0
    per_minute: int = 0
    last_used: float | None = None
    idle_unload: float | None = None
    need: int | None = None
    load_ms: float | None = None
    restarts: int = 0
    error: str | None = None
    placement: list[DevicePlacement] = []
    vision: bool | None = None
    notes: list[str] = []

    @property
    def sees(self) -> bool:
        """Whether the model takes images, as far as is known."""
        return self.projector is not None if self.vision is None else self.vision


def status_of(
    entry: ModelEntry,
    *,
    projector: str | None,
    resident: Resident | None,
    party: Party | None,
    usage: Usage | None,
    failure: ShimmyError | None,
) -> ModelStatus:
    """Put together what is known of a model."""
    error = resident.engine.failure if resident is not None else None
    error = error or failure
    status = ModelStatus(
        entry=entry,
        projector=projector,
        state=_state(resident, party, failure),
        queued=party.n_waiting if party is not None else 0,
        error=error.message if error is not None else None,
    )
    if usage is not None:
        status = msgspec.structs.replace(
            status,
            n_requests=usage.n_requests,
            per_minute=usage.per_minute,
            last_used=usage.last_used,
        )
    return status if resident is None else _with_resident(status, resident)


def _state(resident: Resident | None, party: Party | None, failure: ShimmyError | None) -> State:
    if resident is not None:
        if resident.closing is not None or resident.leaving:
            return "unloading"
        if resident.is_dead:
            return "failed"
        if not resident.loading.done():
            return "loading"
        return "restarting" if resident.engine.state is EngineState.RESTARTING else "loaded"
    if party is not None:
        return "queued"
    return "unloaded" if failure is None else "failed"


def _with_resident(status: ModelStatus, resident: Resident) -> ModelStatus:
    engine = resident.engine
    info = engine.info
    waiting = resident.users
    if resident.is_loaded:
        waiting = max(0, engine.n_active - info.n_parallel) if info is not None else 0
    return msgspec.structs.replace(
        status,
        progress=round(engine.progress, 3),
        pinned=resident.pinned,
        in_flight=max(0, resident.users - waiting),
        queued=status.queued + waiting,
        idle_unload=None if resident.idle_unload == math.inf else resident.idle_unload,
        need=resident.need,
        load_ms=info.load_ms if info is not None else None,
        restarts=engine.restarts,
        placement=info.placement if info is not None else [],
        vision=info.vision if info is not None else None,
        notes=info.notes if info is not None else [],
    )
