"""The figures of one scrape, gathered from the pool, its workers and the system."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import psutil

from shimmy.engine.machine import look
from shimmy.engine.types.info import DevicePlacement
from shimmy.engine.types.stats import DeviceMemory, WorkerStats
from shimmy.errors import ShimmyError
from shimmy.models.status import ModelStatus
from shimmy.server.seams import Engine, Pool

# Seconds that a worker has for its figures; one that takes longer is left out of this scrape.
_PATIENCE = 1.0

# whose cards a backend computes on, where the system shows no card
_VENDORS = {"cuda": "nvidia", "hip": "amd", "metal": "apple", "sycl": "intel"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """Whether the machine has a GPU, and whose: nvidia, amd, intel, apple."""

    detected: bool
    vendor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A model in memory; `stats` None where the worker did not answer in time."""

    name: str
    stats: WorkerStats | None
    placement: list[DevicePlacement]
    gpu_backend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What there is now; memory in bytes."""

    gpu: Gpu
    memory_total: int
    memory_free: int
    memory_available: int
    statuses: list[ModelStatus]
    loaded: list[Loaded]

    def devices(self) -> dict[str, DeviceMemory]:
        """Return each device's memory once, whichever worker told it."""
        stats = (one.stats for one in self.loaded if one.stats is not None)
        return {memory.device: memory for each in stats for memory in each.devices}


async def take(pool: Pool) -> Snapshot:
    """Gather the figures; no model is loaded for it, and none that hangs holds it up."""
    statuses = pool.statuses()
    names = [one.entry.name for one in statuses if one.state == "loaded"]
    asked = await asyncio.gather(*(_ask(pool, name) for name in names))
    loaded = [one for one in asked if one is not None]
    vendors, memory = await asyncio.to_thread(_system)
    return Snapshot(
        gpu=_gpu(vendors, loaded),
        memory_total=memory.total,
        memory_free=memory.free,
        memory_available=memory.available,
        statuses=statuses,
        loaded=loaded,
    )


async def _ask(pool: Pool, name: str) -> Loaded | None:
    try:
        engine = await pool.peek(name)
    except ShimmyError:
        return None  # it was unloaded in this moment
    info = engine.info
    return Loaded(
        name=name,
        stats=await _stats(engine),
        placement=[] if info is None else info.placement,
        gpu_backend="cpu" if info is None else info.gpu_backend,
    )


async def _stats(engine: Engine) -> WorkerStats | None:
    try:
        async with asyncio.timeout(_PATIENCE):
            return await engine.stats()
    except (TimeoutError, ShimmyError):
        return None


def _system() -> tuple[set[str], Any]:
    """Read what the system's files say. Blocks."""
    return look().vendors(), psutil.virtual_memory()


def _gpu(vendors: set[str], loaded: list[Loaded]) -> Gpu:
    """A card on the bus, or one that a model lies on: not every system shows its cards."""
    for vendor in ("NVIDIA", "AMD", "Intel"):
        if vendor in vendors:
            return Gpu(detected=True, vendor=vendor.lower())
    for one in loaded:
        if any(part.device != "CPU" for part in one.placement):
            return Gpu(detected=True, vendor=_VENDORS.get(one.gpu_backend))
    return Gpu(detected=False, vendor=None)
