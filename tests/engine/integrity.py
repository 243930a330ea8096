"""Does what the scheduler believes of the cells agree with llama.cpp?"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from shimmy.engine import Engine
from shimmy.engine.types.options import EngineOptions
from shimmy.llama.context import Context
from shimmy.worker.medium import n_text
from shimmy.worker.prefix import PrefixIndex, Sharing


def used_cells(context: Context) -> int:
    """Count the cells in use, as the state of a context with one pool of cells lists them."""
    state = bytes(context.state.copy_out())
    (n_arch,) = struct.unpack_from("<I", state)
    n_stream, n_cells = struct.unpack_from("<II", state, 4 + n_arch)
    assert n_stream == 1
    return int(n_cells)


def stray_windows(index: PrefixIndex, context: Context) -> list[str]:
    """Return which sequences have cells in layers with a sliding window alone."""
    found = []
    for seq_id in range(256 if context.kv_unified else context.n_seq_max):
        first, last = context.memory.seq_pos_min(seq_id), context.memory.seq_pos_max(seq_id)
        resident = index._residents.get(seq_id)
        n_cells = 0 if resident is None else resident.n_tokens + resident.n_hidden
        if last is not None and not 0 <= (first or 0) <= last < n_cells:
            found.append(f"sequence {seq_id}: {n_cells} cells, but a window at {first} to {last}")
    return found


def differences(index: PrefixIndex, context: Context) -> list[str]:
    """Return what the index and the memory do not agree on; the engine's thread."""
    found = index.faults()
    sharing = index._sharing
    for seq_id in range(256 if sharing is Sharing.CELLS else context.n_seq_max):
        resident = index._residents.get(seq_id)
        n_cells = 0 if resident is None else resident.n_tokens + resident.n_hidden
        last = context.memory.last(seq_id)
        if resident is not None and n_text(resident.tokens) < resident.n_tokens:
            # where positions have two dimensions, an image takes fewer of them than cells
            wrong = last is None or last >= n_cells
        else:
            wrong = last != (n_cells - 1 if n_cells else None)
        if wrong:
            found.append(f"sequence {seq_id}: {n_cells} cells, but the last position is {last}")
    found += stray_windows(index, context)
    if sharing is Sharing.CELLS and used_cells(context) != index.n_cells:
        found.append(f"{index.n_cells} cells counted, {used_cells(context)} in use")
    return found


def leftovers(loop: Any) -> list[str]:
    """Return what is left of requests in an engine that has none; the engine's thread."""
    scheduler = loop._scheduler
    left = {
        "tasks": loop._tasks._by_id,
        "rows by slot": loop._tasks._by_slot,
        "waiting jobs": scheduler._waiting,
        "running jobs": scheduler._running,
        "rows": scheduler._rows,
        "paused jobs": scheduler._paused,
        "running residents": [r for r in scheduler._index._residents.values() if r.running],
    }
    found = [f"{name}: {what}" for name, what in left.items() if what]
    if loop.n_open:
        found.append(f"{loop.n_open} tasks count as open")
    n_ids = len(scheduler._index._free) + len(scheduler._index._residents)
    if n_ids not in (256, 255, len(scheduler._free)):
        found.append(f"{n_ids} sequence ids")
    if len(set(scheduler._free)) != len(scheduler._free):
        found.append("a slot is free twice")
    return found


def loop_of(engine: Engine) -> Any:
    """Return the loop of an engine of this process."""
    return engine._link._transport._worker._loop  # type: ignore[union-attr]


async def on_engine(engine: Engine, function: Callable[[], Any]) -> Any:
    """Return what `function` does on the engine's thread, or raise what it raises."""
    home = asyncio.get_running_loop()
    done: asyncio.Future[Any] = home.create_future()

    def run() -> None:
        try:
            result = function()
        except Exception as error:
            home.call_soon_threadsafe(done.set_exception, error)
        else:
            home.call_soon_threadsafe(done.set_result, result)

    loop_of(engine).call(run)
    return await done


async def faults(engine: Engine) -> list[str]:
    """Return everything that is not as it should be in an idle engine of this process."""
    loop = loop_of(engine)

    def look() -> list[str]:
        try:
            return differences(loop._scheduler._index, loop._runner._context) + leftovers(loop)
        except Exception as error:
            return [repr(error)]

    found: list[str] = await on_engine(engine, look)
    return found


@asynccontextmanager
async def checked(options: EngineOptions) -> AsyncIterator[Engine]:
    """Run an engine in this process; at the end nothing may be amiss."""
    async with Engine.solo(options) as engine:
        yield engine
        assert await faults(engine) == []
