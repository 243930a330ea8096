"""Keeps the engine of the model that is in use, and swaps it when another is asked for.

One model is loaded at a time. Everything here runs on the event loop's thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec

from shimmy.engine import Engine, EngineState
from shimmy.engine.types.info import ModelInfo
from shimmy.engine.types.options import EngineOptions
from shimmy.errors import EngineClosedError, LoadCancelledError, ShimmyError
from shimmy.models.entry import ModelEntry
from shimmy.models.registry import Registry

# Seconds for which a model that failed to load is not tried again.
FAILURE_MEMORY = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A loaded model, pinned while its `Pool.use` block runs."""

    entry: ModelEntry
    engine: Engine


@dataclass(eq=False, slots=True, kw_only=True)
class _Loaded:
    """One engine, who uses it, and the tasks that load and close it."""

    entry: ModelEntry
    engine: Engine
    loading: asyncio.Task[ModelInfo]
    users: int = 0
    closing: asyncio.Task[None] | None = None

    def serves(self, entry: ModelEntry) -> bool:
        """Whether a request for `entry` can run here."""
        if self.entry.path != entry.path or self.closing is not None:
            return False
        if self.loading.done() and (self.loading.cancelled() or self.loading.exception()):
            return False
        return self.engine.state not in {EngineState.FAILED, EngineState.CLOSED}


@dataclass(frozen=True, slots=True)
class _Failure:
    error: ShimmyError
    time: float = field(default_factory=lambda: asyncio.get_running_loop().time())

    def is_fresh(self) -> bool:
        return asyncio.get_running_loop().time() - self.time < FAILURE_MEMORY


class Pool:
    """Loads models on demand, at most one at a time.

    A request for another model waits until the loaded one is idle; requests are let in in the
    order in which they came, so that neither model's users can starve the other's.
    """

    def __init__(
        self,
        registry: Registry,
        options: EngineOptions,
        *,
        make_engine: Callable[[EngineOptions], Engine] = Engine.child,
    ) -> None:
        """Load with `options`, the path replaced; LoRA and template are the default model's only."""
        self.registry = registry
        self._options = options
        self._make_engine = make_engine
        self._loaded: _Loaded | None = None
        self._failures: dict[str, _Failure] = {}
        self._turn = asyncio.Lock()
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    @property
    def current(self) -> Engine | None:
        """The engine of the loaded (or loading, or failed) model."""
        return self._loaded.engine if self._loaded else None

    @property
    def current_entry(self) -> ModelEntry | None:
        """The model that `current` runs."""
        return self._loaded.entry if self._loaded else None

    async def start(self) -> None:
        """Begin to load the default model and return; a failure shows in `current` and in `use`.

        Raises:
            ModelNotFoundError: there is no model at all.
        """
        entry = self.registry.resolve(None)
        async with self._turn:
            self._check_open()
            if self._loaded is None:
                await self._load(entry)

    @asynccontextmanager
    async def use(self, name: str | None) -> AsyncIterator[Lease]:
        """Pin the model called `name` (None: the default), loaded and ready, for a block.

        Raises:
            ModelNotFoundError: no model has this name.
            ModelLoadError: it cannot be loaded, or just could not.
            EngineClosedError: the pool was closed.
        """
        loaded = await self._pin(self.registry.resolve(name))
        try:
            await asyncio.shield(loaded.loading)
            yield Lease(entry=loaded.entry, engine=loaded.engine)
        finally:
            loaded.users -= 1
            if loaded.users == 0:
                self._idle.set()

    async def close(self) -> None:
        """End the engine; requests in flight and waiting ones get `EngineClosedError`. Idempotent."""
        self._closed = True
        self._idle.set()
        if self._loaded is not None:
            await self._close(self._loaded)

    async def _pin(self, entry: ModelEntry) -> _Loaded:
        async with self._turn:
            self._check_open()
            loaded = self._loaded
            if loaded is None or not loaded.serves(entry):
                failure = self._failures.get(entry.path)
                if failure is not None and failure.is_fresh():
                    raise failure.error.with_traceback(None)
                await self._idle.wait()
                self._check_open()
                loaded = await self._load(entry)
            loaded.users += 1
            self._idle.clear()
            return loaded

    async def _load(self, entry: ModelEntry) -> _Loaded:
        """Replace the loaded model. Call with the turn, and with nobody using the loaded one."""
        if self._loaded is not None:
            await self._close(self._loaded)
            self._loaded = None
            self._check_open()
        self._failures.pop(entry.path, None)
        engine = self._make_engine(self._options_for(entry))
        loading = asyncio.create_task(self._bring_up(entry, engine), name=f"load {entry.name}")
        # a load that nobody waits for may fail: its error shows in the engine's state
        loading.add_done_callback(lambda task: task.cancelled() or task.exception())
        self._loaded = _Loaded(entry=entry, engine=engine, loading=loading)
        return self._loaded

    async def _bring_up(self, entry: ModelEntry, engine: Engine) -> ModelInfo:
        try:
            await engine.start()
            return await engine.ready()
        except (EngineClosedError, LoadCancelledError):
            raise
        except ShimmyError as error:
            self._failures[entry.path] = _Failure(error)
            raise

    async def _close(self, loaded: _Loaded) -> None:
        """Close an engine to its end, even if whoever asked for it is cancelled."""
        if loaded.closing is None:
            loaded.closing = asyncio.create_task(loaded.engine.close())
        await asyncio.shield(loaded.closing)

    def _options_for(self, entry: ModelEntry) -> EngineOptions:
        options = msgspec.structs.replace(self._options, model_path=entry.path)
        if entry.path != self.registry.resolve(None).path:
            # these belong to one model: another has other tensors and another way to talk
            options = msgspec.structs.replace(options, lora=[], chat_template=None)
        return options

    def _check_open(self) -> None:
        if self._closed:
            raise EngineClosedError("the server is shutting down")
