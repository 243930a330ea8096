"""An engine and a pool that play scripts: the contract without a model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from shimmy.engine.generation import Generation
from shimmy.engine.types.event import Accepted, Delta, Event, Failed, Finished, Timings, Usage
from shimmy.engine.types.info import ModelInfo
from shimmy.engine.types.request import GenerateRequest
from shimmy.errors import EngineClosedError, EngineDeadError, ModelNotFoundError, ShimmyError

Step = Event | Exception | float | asyncio.Event | list[Event]
"""An event, an error, a pause in seconds, something to wait for, or events of one step."""

Script = Callable[[GenerateRequest], Iterable[Step]]

MODELS = ("tiny", "org/big")


def finished(reason="stop", *, prompt=5, completion=3, cached=0, stop=None) -> Finished:
    return Finished(
        reason=reason,
        usage=Usage(prompt_tokens=prompt, completion_tokens=completion, cached_tokens=cached),
        timings=Timings(queue_ms=0.5, prompt_ms=10.0, predicted_ms=20.0),
        stop=stop,
    )


def hello(_request: GenerateRequest) -> list[Step]:
    return [
        Accepted(5),
        Delta(text="Hel"),
        Delta(text="lo"),
        Delta(text="", n_tokens=1),
        finished(),
    ]


class QueuedGeneration(Generation):
    @property
    def n_queued(self) -> int:
        return len(self._events)


INFO = ModelInfo(
    path="/models/tiny.gguf",
    name="tiny",
    description="tiny",
    n_params=1,
    size=1,
    n_vocab=256,
    n_ctx_train=128,
    n_ctx=128,
    n_batch=128,
    n_parallel=4,
    n_threads=1,
    n_gpu_layers=0,
    devices=["CPU"],
    has_chat_template=True,
    load_ms=1.0,
)


class FakeEngine:
    """Plays `script` for every request; remembers requests and cancellations."""

    def __init__(self, script: Script = hello) -> None:
        self.script = script
        self.state = "ready"
        self.progress = 1.0
        self.failure: ShimmyError | None = None
        self.info: ModelInfo | None = INFO
        self.restarts = 0
        self.requests: list[GenerateRequest] = []
        self.n_cancelled = 0
        self._live: dict[Generation, asyncio.Task[None]] = {}

    @property
    def n_active(self) -> int:
        return len(self._live)

    def generate(self, request: GenerateRequest) -> Generation:
        request.check()
        self.requests.append(request)
        generation = QueuedGeneration(lambda: self._cancel(generation))
        task = asyncio.create_task(self._play(generation, request))
        self._live[generation] = task
        return generation

    def fail_all(self, error: ShimmyError) -> None:
        for generation, task in list(self._live.items()):
            task.cancel()
            generation.put(Failed.of(error))
        self._live.clear()

    def die(self) -> None:
        self.fail_all(EngineDeadError("the worker was killed by signal 9"))
        self.restarts += 1

    async def gone(self, n: int = 1) -> None:
        """Wait until `n` requests were cancelled."""
        async with asyncio.timeout(10):
            while self.n_cancelled < n:
                await asyncio.sleep(0.002)

    async def busy(self, n: int = 1) -> None:
        """Wait until `n` requests run."""
        async with asyncio.timeout(10):
            while self.n_active < n:
                await asyncio.sleep(0.002)

    def _cancel(self, generation: Generation) -> None:
        task = self._live.pop(generation, None)
        if task is not None:
            self.n_cancelled += 1
            task.cancel()

    async def _play(self, generation: Generation, request: GenerateRequest) -> None:
        for step in self.script(request):
            if isinstance(step, float):
                await asyncio.sleep(step)
            elif isinstance(step, asyncio.Event):
                await step.wait()
            elif isinstance(step, Exception):
                generation.put(Failed.of(step))
            elif isinstance(step, list):
                for event in step:
                    generation.put(event)
            else:
                generation.put(step)
                # one event per step, as the engine's do
                await asyncio.sleep(0)
        self._live.pop(generation, None)


@dataclass(frozen=True, kw_only=True)
class Entry:
    name: str
    path: str = "/models/x.gguf"
    size: int = 1000
    source: str = "discovered"
    modified: int = 1_700_000_000


class FakeRegistry:
    def __init__(self, names: Iterable[str] = MODELS) -> None:
        self._entries = [Entry(name=name) for name in names]

    def entries(self) -> list[Entry]:
        return list(self._entries)

    def resolve(self, name: str | None) -> Entry:
        for entry in self._entries:
            if not name or entry.name == name:
                return entry
        raise ModelNotFoundError(name or "", [entry.name for entry in self._entries])


@dataclass(frozen=True)
class FakeLease:
    entry: Entry
    engine: FakeEngine


@dataclass
class FakePool:
    engine: FakeEngine = field(default_factory=FakeEngine)
    registry: FakeRegistry = field(default_factory=FakeRegistry)
    error: Exception | None = None
    started: bool = False
    closed: bool = False
    n_leases: int = 0
    loaded_at: float = field(default_factory=time.time)

    @property
    def current(self) -> FakeEngine | None:
        return self.engine

    async def start(self) -> None:
        self.started = True

    @asynccontextmanager
    async def use(self, name: str | None) -> AsyncIterator[FakeLease]:
        if self.error is not None:
            raise self.error
        entry = self.registry.resolve(name)
        self.n_leases += 1
        try:
            yield FakeLease(entry, self.engine)
        finally:
            self.n_leases -= 1

    async def close(self) -> None:
        self.closed = True
        if self.engine is not None:
            self.engine.fail_all(EngineClosedError("the server is shutting down"))
