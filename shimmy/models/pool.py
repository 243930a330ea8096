"""Keeps the models that are in use loaded, and makes room for those that are asked for.

Everything here runs on the event loop's thread.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from shimmy.engine import Engine
from shimmy.engine.types.options import EngineOptions
from shimmy.errors import DeadlineError, EngineLoadingError, ModelNotFoundError, ShimmyError
from shimmy.models.aliases import Aliases
from shimmy.models.budget import Budget, estimate
from shimmy.models.entry import ModelEntry
from shimmy.models.profile import NO_PROFILE, Profile, asked_for, options_for
from shimmy.models.registry import Registry
from shimmy.models.residency import Plan, Residency
from shimmy.models.resident import Resident
from shimmy.models.status import ModelStatus, status_of
from shimmy.models.usage import Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A loaded model, pinned while its `Pool.use` block runs."""

    entry: ModelEntry
    engine: Engine


class Pool:
    """Loads models on demand, as many at once as the budget allows.

    A request for a model that is not loaded waits until there is room: the one that was not used
    for the longest time goes, as soon as nobody uses it. Where all are in use, the one that has
    been loaded for the longest lets in nobody new until the waiting request has had its turn, so
    that no model's users can starve another's. Pinned models stay.
    """

    def __init__(
        self,
        registry: Registry,
        options: EngineOptions,
        *,
        budget: Budget | None = None,
        idle_unload: float = math.inf,
        profiles: Mapping[str, Profile] | None = None,
        aliases: Mapping[str, str] | None = None,
        default: str | None = None,
        make_engine: Callable[[EngineOptions], Engine] = Engine.child,
        need: Callable[[ModelEntry, EngineOptions], int] = estimate,
    ) -> None:
        """Load with `options`, the path replaced; `profiles` are by model name.

        A model that nobody has used for `idle_unload` seconds is unloaded. `default` is the alias
        that requests without a name mean. `need` estimates the bytes that a model takes.
        """
        self.registry = registry
        self.aliases = Aliases(aliases, default=default)
        # by the path of the model
        self._usage: dict[str, Usage] = {}
        self._options = options
        self._idle_unload = idle_unload
        self._profiles = dict(profiles or {})
        self._need = need
        self._residency = Residency(budget or Budget(), self._plan, make_engine)

    @property
    def current(self) -> Engine | None:
        """The engine that speaks for the pool: a loaded one, else one that loads, else a failed one."""
        resident = self._current()
        return resident.engine if resident else None

    @property
    def current_entry(self) -> ModelEntry | None:
        """The model that `current` runs."""
        resident = self._current()
        return resident.entry if resident else None

    @property
    def is_asleep(self) -> bool:
        """Whether nothing is loaded and nobody waits, so that a request would find its model."""
        unused = all(item.closing is not None for item in self._residency)
        return self._residency.has_loaded and unused and not self._residency.n_parties

    @property
    def failure(self) -> ShimmyError | None:
        """Why the default model could not be loaded, for a while."""
        try:
            return self._residency.failure(self.resolve(None))
        except ModelNotFoundError as error:
            return error

    def resolve(self, name: str | None) -> ModelEntry:
        """Return the model that a request calls `name` (None: the default).

        Raises:
            ModelNotFoundError: no model has this name.
        """
        return self.registry.resolve(self.aliases.target(name))

    async def find(self, name: str | None) -> ModelEntry:
        """Resolve a name, after a new search of the folders if nothing has it.

        Raises:
            ModelNotFoundError: no model has this name.
        """
        return await self.registry.find(self.aliases.target(name))

    async def peek(self, name: str | None) -> Engine:
        """Return the engine of a model in memory (None: the one that speaks for the pool).

        That is no use of the model: it is not loaded for it, and does not stay for it.

        Raises:
            ModelNotFoundError: no model has this name.
            EngineLoadingError: it is not loaded, or not yet.
        """
        if name is None:
            resident = self._current()
        else:
            resident = self._residency.find(await self.find(name))
        if resident is None or resident.closing is not None or resident.engine.state != "ready":
            which = "the model" if name is None else f"model {name!r}"
            raise EngineLoadingError(f"{which} is not loaded")
        return resident.engine

    def profile(self, entry: ModelEntry) -> Profile:
        """Return what is settled for a model."""
        return self._profiles.get(entry.name, NO_PROFILE)

    def status(self, name: str | None) -> ModelStatus:
        """Return what a model is doing.

        Raises:
            ModelNotFoundError: no model has this name.
        """
        return self._status(self.resolve(name))

    def statuses(self) -> list[ModelStatus]:
        """Return what every model is doing, those that are in no folder any more but in memory too."""
        entries = {entry.path: entry for entry in self.registry.entries()}
        entries |= {item.entry.path: item.entry for item in self._residency}
        return [self._status(entry) for entry in entries.values()]

    async def start(self) -> None:
        """Begin to load the default and the preload models; `use` raises failures.

        Returns when their workers are on their way: what the caller does next runs beside them.

        Raises:
            ModelNotFoundError: there is no model at all.
        """
        self._residency.check_open()
        first = self.resolve(None)
        preload = [item for item in self.registry.entries() if self.profile(item).preload]
        for entry in (first, *preload):
            self._residency.want(entry)
        await self._residency.launched()

    @asynccontextmanager
    async def use(
        self,
        name: str | None,
        *,
        wait: bool = True,
        load: bool = True,
        patience: float | None = None,
        idle_unload: float | None = None,
    ) -> AsyncIterator[Lease]:
        """Hold the model called `name` (None: the default), loaded and ready, for a block.

        Without `wait` a model that is not ready is an error, and begins to load; without `load` it
        does not even do that. After `patience` seconds one that is not ready is an error too; a load
        that began goes on. `idle_unload` is how many seconds the model stays after this use
        (inf: for good); None leaves that as it was.

        Raises:
            ModelNotFoundError: no model has this name.
            ModelLoadError: it cannot be loaded, or just could not.
            EngineLoadingError: it is not ready, and the request would not wait.
            DeadlineError: it was not ready in time.
            EngineClosedError: the pool was closed.
        """
        self._residency.check_open()
        entry = await self.find(name)
        usage = self._usage.setdefault(entry.path, Usage())
        usage.count()
        if not (wait and load):
            self._check_ready(entry, load=load)
        resident = await self._enter(entry, patience)
        if idle_unload is not None:
            resident.idle_unload = idle_unload
        try:
            yield Lease(entry=entry, engine=resident.engine)
        finally:
            usage.touch()
            self._residency.leave(resident)

    async def load(self, name: str | None, *, wait: bool = True) -> ModelEntry:
        """Load a model although nobody asks it anything; a fresh failure is tried again.

        Raises: as `use`, without `wait` only that there is no such model.
        """
        self._residency.check_open()
        entry = await self.find(name)
        self._residency.forget_failure(entry)
        self._residency.want(entry)
        if wait:
            resident = await self._residency.enter(entry)
            try:
                await asyncio.shield(resident.loading)
            finally:
                self._residency.leave(resident)
        return entry

    async def unload(self, name: str | None, *, force: bool = False) -> bool:
        """End a model's worker and wait for that; tell whether it was there.

        Requests that run are let finish first, new ones load the model again; with `force` those
        that run end with `EngineClosedError`.

        Raises:
            ModelNotFoundError: no model has this name.
        """
        resident = self._residency.find(await self.find(name))
        if resident is None:
            return False
        resident.leaving = True
        if force or resident.users == 0:
            self._residency.end(resident)
        await resident.gone.wait()
        return True

    async def close(self) -> None:
        """End all engines; requests in flight and waiting ones get `EngineClosedError`. Idempotent."""
        await self._residency.close()

    def _current(self) -> Resident | None:
        there = [item for item in self._residency if item.closing is None]
        return max(
            there, key=lambda item: (item.is_loaded, not item.is_dead, item.last_used), default=None
        )

    async def _enter(self, entry: ModelEntry, patience: float | None) -> Resident:
        """Become a user of a model, and wait until it is ready, for `patience` seconds at most."""
        resident = None
        try:
            async with asyncio.timeout(patience) as limit:
                resident = await self._residency.enter(entry)
                await asyncio.shield(resident.loading)
                return resident
        except BaseException as error:
            if resident is not None:
                # who asks again finds it loaded
                resident.kept |= limit.expired()
                self._residency.leave(resident)
            if isinstance(error, TimeoutError):
                raise DeadlineError(
                    f"model {entry.name!r} was not loaded before the request's timeout"
                ) from error
            raise

    def _check_ready(self, entry: ModelEntry, *, load: bool) -> None:
        resident = self._residency.find(entry)
        if resident is not None and resident.is_loaded and resident.admits:
            return
        if (error := self._residency.failure(entry)) is not None:
            raise error.with_traceback(None)
        if load:
            self._residency.want(entry)
        doing = "is being loaded; ask again" if load or resident else "is not loaded"
        raise EngineLoadingError(f"model {entry.name!r} {doing}")

    def _status(self, entry: ModelEntry) -> ModelStatus:
        asked = asked_for(self._options, self.profile(entry), is_default=self._is_default(entry))
        return status_of(
            entry,
            projector=entry.mmproj(asked),
            resident=self._residency.find(entry),
            party=self._residency.party(entry),
            usage=self._usage.get(entry.path),
            failure=self._residency.failure(entry),
        )

    def _plan(self, entry: ModelEntry) -> Plan:
        profile = self.profile(entry)
        options = options_for(entry, self._options, profile, is_default=self._is_default(entry))
        idle = self._idle_unload if profile.idle_unload is None else profile.idle_unload
        return Plan(
            options=options,
            need=self._need(entry, options),
            pinned=profile.pinned,
            idle_unload=idle,
        )

    def _is_default(self, entry: ModelEntry) -> bool:
        # none is left where the files of those in memory were removed
        return bool(self.registry.entries()) and entry.path == self.registry.resolve(None).path
