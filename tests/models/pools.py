"""Pools over fake engines, and users of their models."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from shimmy.engine.types.options import EngineOptions
from shimmy.models.budget import Budget
from shimmy.models.entry import ModelEntry
from shimmy.models.pool import Pool
from shimmy.models.registry import Registry
from tests.models.fake_engine import Garage


def entry_of(name: str, size: int = 1000) -> ModelEntry:
    return ModelEntry(
        name=name, path=f"/models/{name}.gguf", size=size, source="registered", modified=0
    )


def make_pool(
    registry: Registry,
    garage: Garage,
    *,
    max_models: int = 1,
    memory: int | None = None,
    free: Callable[[], int] = lambda: 10**12,
    more: dict[str, Any] | None = None,
    **options: Any,
) -> Pool:
    return Pool(
        registry,
        EngineOptions(model_path="", **options),
        budget=Budget(max_models=max_models, memory=memory, free=free),
        make_engine=garage.make,
        need=lambda entry, _: entry.size,
        **(more or {}),
    )


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


class User:
    """Uses a model until it is told to stop."""

    def __init__(self, pool: Pool, name: str | None) -> None:
        self.engine = None
        self.entry = None
        self._stop = asyncio.Event()
        self.task = asyncio.ensure_future(self._run(pool, name))

    async def _run(self, pool: Pool, name: str | None) -> None:
        async with pool.use(name) as lease:
            self.engine = lease.engine
            self.entry = lease.entry
            await self._stop.wait()

    async def leave(self) -> None:
        self._stop.set()
        await self.task
