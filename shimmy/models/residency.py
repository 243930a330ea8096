"""Which models are in memory: who is let in, who must go, loads and their ends.

Everything here runs on the event loop's thread. Knows models by their entries; names are the pool's.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from shimmy.engine import Engine
from shimmy.engine.types.info import ModelInfo
from shimmy.engine.types.options import EngineOptions
from shimmy.errors import EngineClosedError, LoadCancelledError, ModelLoadError, ShimmyError
from shimmy.models.budget import Budget
from shimmy.models.entry import ModelEntry
from shimmy.models.queue import Party, Queue
from shimmy.models.resident import Resident

# Seconds for which a model that failed to load is not tried again.
FAILURE_MEMORY = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a model is loaded: what it takes in bytes, how many seconds it stays unused."""

    options: EngineOptions
    need: int
    pinned: bool
    idle_unload: float


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a model could not be loaded, and since when that is known."""

    error: ShimmyError
    time: float = field(default_factory=lambda: asyncio.get_running_loop().time())

    def is_fresh(self) -> bool:
        """Whether it is too early to try again."""
        return asyncio.get_running_loop().time() - self.time < FAILURE_MEMORY


class Residency:
    """The models in memory, within a budget, and the queue of those who wait to be let in."""

    def __init__(
        self,
        budget: Budget,
        plan: Callable[[ModelEntry], Plan],
        make_engine: Callable[[EngineOptions], Engine],
    ) -> None:
        """`plan` may refuse a model by raising a `ShimmyError`."""
        self.budget = budget
        self._plan = plan
        self._make_engine = make_engine
        self._residents: dict[str, Resident] = {}
        self._failures: dict[str, Failure] = {}
        self._queue = Queue()
        self._closed = False
        self.has_loaded = False
        """Whether any load has ever succeeded."""

    def __iter__(self) -> Iterator[Resident]:
        """Go through the models in memory, in any state."""
        return iter(list(self._residents.values()))

    @property
    def n_parties(self) -> int:
        """Models that somebody waits for."""
        return len(self._queue)

    def find(self, entry: ModelEntry) -> Resident | None:
        """Return the model in memory, if it is there in any way."""
        return self._residents.get(entry.path)

    def party(self, entry: ModelEntry) -> Party | None:
        """Return who waits for the model to be let in."""
        return self._queue.find(entry)

    def failure(self, entry: ModelEntry) -> ShimmyError | None:
        """Return why the model cannot be loaded just now."""
        failure = self._failures.get(entry.path)
        return failure.error if failure is not None and failure.is_fresh() else None

    def forget_failure(self, entry: ModelEntry) -> None:
        """Let the model be tried again at once."""
        self._failures.pop(entry.path, None)

    def check_open(self) -> None:
        """Raise `EngineClosedError` after `close`."""
        if self._closed:
            raise EngineClosedError("the server is shutting down")

    def want(self, entry: ModelEntry) -> None:
        """Have a model loaded although nobody waits for it."""
        resident = self._residents.get(entry.path)
        if resident is not None and resident.admits:
            resident.kept = True
            return
        self._queue.party(entry).kept = True
        self._admit()

    async def launched(self) -> None:
        """Wait until the workers of all models in memory are on their way."""
        for resident in self:
            await resident.launched.wait()

    async def enter(self, entry: ModelEntry) -> Resident:
        """Wait to be let in, and return the model, whose user the caller is from now on."""
        resident = self._residents.get(entry.path)
        if resident is not None and resident.admits:
            resident.users += 1
            resident.stop_timer()
            return resident
        seat = self._queue.party(entry).join()
        self._admit()
        try:
            return await seat
        except asyncio.CancelledError:
            if seat.done() and not seat.cancelled() and seat.exception() is None:
                self.leave(seat.result())
            # whoever was made to leave for this one may stay
            self._admit()
            raise

    def leave(self, resident: Resident) -> None:
        """Note that a user has left."""
        resident.users -= 1
        resident.last_used = asyncio.get_running_loop().time()
        if resident.users == 0:
            self._on_unused(resident)
        self._admit()

    def end(self, resident: Resident) -> None:
        """Close an engine, to its end even if whoever asked for it is cancelled."""
        resident.stop_timer()
        if resident.closing is None:
            resident.closing = asyncio.create_task(self._close(resident))

    async def close(self) -> None:
        """End all engines; those who wait get `EngineClosedError`. Idempotent."""
        self._closed = True
        self._admit()
        for resident in self:
            self.end(resident)
        await asyncio.gather(*(resident.gone.wait() for resident in self))

    def _on_unused(self, resident: Resident) -> None:
        """Decide what becomes of a model that nobody uses any more."""
        unwanted = not resident.loading.done() and not resident.kept
        if resident.leaving or unwanted:
            self.end(resident)
        elif resident.is_idle and not resident.pinned and resident.idle_unload < math.inf:
            resident.stop_timer()
            resident.timer = asyncio.get_running_loop().call_later(
                resident.idle_unload, self.end, resident
            )

    def _admit(self) -> None:
        """Let in whoever can be let in, in the order in which they came."""
        for resident in self._residents.values():
            resident.yielding = False
        self._queue.drop_empty()
        blocked = False
        for party in self._queue:
            if self._closed:
                party.turn_away(EngineClosedError("the server is shutting down"))
            elif (there := self._residents.get(party.entry.path)) and there.admits:
                party.let_in(there)
            elif error := self.failure(party.entry):
                party.turn_away(error)
            elif blocked or not self._bring(party):
                # the first that must wait makes the others wait who need room as well
                blocked = True
                continue
            self._queue.remove(party)

    def _bring(self, party: Party) -> bool:
        """Load the party's model if there is room, or see to it that there will be."""
        entry = party.entry
        old = self._residents.get(entry.path)
        if old is not None:
            if old.users == 0:
                self.end(old)
            return False
        try:
            plan = self._plan(entry)
            if (reason := self.budget.refusal(plan.need)) is not None:
                raise ModelLoadError(f"{entry.path} is not loaded: {reason}")
            if not self._has_room(plan.need):
                return False
        except ShimmyError as error:
            self._failures[entry.path] = Failure(error)
            party.turn_away(error)
            return True
        party.let_in(self._load(entry, plan))
        return True

    def _has_room(self, need: int) -> bool:
        """Tell whether there is room, and choose who goes if not.

        Raises:
            ModelLoadError: nobody can go.
        """
        residents = list(self._residents.values())
        if self.budget.has_room(need, [item.holding for item in residents]):
            return True
        if any(item.closing for item in residents):
            return False
        movable = [item for item in residents if not item.pinned]
        if not movable and self.budget.may_crowd(len(residents)):
            return True
        if not movable:
            names = ", ".join(item.entry.name for item in residents)
            raise ModelLoadError(
                f"there is no room beside the pinned models ({names}): "
                "raise --models-max or --models-memory, or pin fewer"
            )
        if idle := [item for item in movable if item.is_idle]:
            self.end(min(idle, key=lambda item: (not item.is_dead, item.last_used)))
        else:
            min(movable, key=lambda item: item.since).yielding = True
        return False

    def _load(self, entry: ModelEntry, plan: Plan) -> Resident:
        self._failures.pop(entry.path, None)
        engine = self._make_engine(plan.options)
        launched = asyncio.Event()
        bring_up = self._bring_up(entry, engine, launched)
        loading = asyncio.create_task(bring_up, name=f"load {entry.name}")
        now = asyncio.get_running_loop().time()
        resident = Resident(
            entry=entry,
            engine=engine,
            loading=loading,
            need=plan.need,
            pinned=plan.pinned,
            idle_unload=plan.idle_unload,
            since=now,
            last_used=now,
            launched=launched,
        )
        loading.add_done_callback(lambda _: self._on_loaded(resident))
        self._residents[entry.path] = resident
        return resident

    async def _bring_up(
        self, entry: ModelEntry, engine: Engine, launched: asyncio.Event
    ) -> ModelInfo:
        try:
            try:
                await engine.start()
            finally:
                launched.set()
            return await engine.ready()
        except (EngineClosedError, LoadCancelledError):
            raise
        except ShimmyError as error:
            self._failures[entry.path] = Failure(error)
            raise

    def _on_loaded(self, resident: Resident) -> None:
        """Go on after a load; one that nobody waits for may fail: the engine's state shows it."""
        if not resident.loading.cancelled() and resident.loading.exception() is None:
            self.has_loaded = True
        if resident.closing is None:
            if resident.users == 0:
                self._on_unused(resident)
            self._admit()

    async def _close(self, resident: Resident) -> None:
        try:
            await resident.engine.close()
            # a process that was being started has ended too when the load has
            await asyncio.wait({resident.loading})
        finally:
            if self._residents.get(resident.entry.path) is resident:
                del self._residents[resident.entry.path]
            resident.gone.set()
            self._admit()
