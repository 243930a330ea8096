"""A worker that is given up while its process is being started."""

from __future__ import annotations

import asyncio

import psutil

from shimmy.engine import Engine, EngineState
from shimmy.engine.types.options import EngineOptions


def workers() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


async def test_closing_while_the_process_starts_leaves_none(options: EngineOptions) -> None:
    before = {process.pid for process in workers()}
    for n_turns in (1, 2, 3, 5, 8, 13):
        engine = Engine.child(options)
        starting = asyncio.create_task(engine.start())
        for _ in range(n_turns):
            await asyncio.sleep(0)
        await engine.close()
        await starting
        assert engine.state is EngineState.CLOSED
    assert {process.pid for process in workers()} <= before
