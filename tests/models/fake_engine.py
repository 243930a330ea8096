"""An engine that keeps the contract and runs nothing; the test says when it is loaded."""

from __future__ import annotations

import asyncio

from shimmy.engine import EngineState
from shimmy.engine.types.info import ModelInfo
from shimmy.engine.types.options import EngineOptions
from shimmy.engine.types.stats import WorkerStats
from shimmy.errors import EngineClosedError, ShimmyError

STATS = WorkerStats(
    n_slots=4, n_busy=0, n_waiting=0, n_cells=1024, n_cells_used=0, n_cells_idle=0, n_steps=0,
    n_step_rows=0, n_step_tokens=0, step_seconds=0.0, n_preempted=0,
)  # fmt: skip


class FakeEngine:
    """Stands in for `Engine.child`."""

    def __init__(self, options: EngineOptions) -> None:
        self.options = options
        self.state = EngineState.NEW
        self.failure: ShimmyError | None = None
        self.progress = 0.0
        self.n_closed = 0
        self.info: ModelInfo | None = None
        self.n_active = 0
        self.restarts = 0
        self.hangs = False
        self.figures = STATS
        self.slow_close = asyncio.Event()
        self.slow_close.set()
        self._settled = asyncio.Event()

    async def start(self) -> None:
        self.state = EngineState.LOADING

    async def ready(self) -> ModelInfo:
        await self._settled.wait()
        if self.failure:
            raise self.failure
        if self.state is EngineState.CLOSED:
            raise EngineClosedError("the engine was closed")
        return info_of(self.options)

    async def stats(self) -> WorkerStats:
        while self.hangs:
            await asyncio.sleep(0.01)
        return self.figures

    def loaded(self) -> None:
        self.state = EngineState.READY
        self.progress = 1.0
        self.info = info_of(self.options)
        self._settled.set()

    def fail(self, error: ShimmyError) -> None:
        self.state = EngineState.FAILED
        self.failure = error
        self._settled.set()

    async def close(self) -> None:
        if self.state is not EngineState.CLOSED:
            self.state = EngineState.CLOSED
            self._settled.set()
            await self.slow_close.wait()
            self.n_closed += 1


class Garage:
    """Makes fake engines and remembers them; `instant` ones are loaded at once."""

    def __init__(self, *, instant: bool = True) -> None:
        self.instant = instant
        self.engines: list[FakeEngine] = []

    def make(self, options: EngineOptions) -> FakeEngine:
        engine = FakeEngine(options)
        self.engines.append(engine)
        if self.instant:
            start = engine.start

            async def start_and_load() -> None:
                await start()
                engine.loaded()

            engine.start = start_and_load  # type: ignore[method-assign]
        return engine

    @property
    def n_running(self) -> int:
        return sum(engine.n_closed == 0 for engine in self.engines)


def info_of(options: EngineOptions) -> ModelInfo:
    return ModelInfo(
        path=options.model_path,
        name="fake",
        description="fake 1M F16",
        n_params=1_000_000,
        size=2_000_000,
        n_vocab=1000,
        n_ctx_train=2048,
        n_ctx=1024,
        n_batch=512,
        n_parallel=options.n_parallel or 4,
        n_threads=2,
        n_gpu_layers=0,
        devices=["CPU"],
        has_chat_template=True,
        load_ms=12.5,
    )
