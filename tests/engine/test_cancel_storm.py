"""A thousand requests that leave at random times leave nothing behind."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import msgspec
import pytest

from shimmy.engine import Engine
from shimmy.engine.types.options import EngineOptions
from shimmy.engine.types.prompt import TokenPrompt
from shimmy.errors import OverloadedError
from tests.engine.ask import ask
from tests.engine.integrity import checked, faults, loop_of
from tests.support.tiny_gguf import write_model

REQUESTS = 1000


async def leave(engine: Engine, draw: random.Random) -> None:
    """Ask for a lot, some of it shared with others, and leave somewhere on the way."""
    stem = [5 + i % 200 for i in range(draw.randrange(1, 150))]
    prompt = TokenPrompt([*stem, *(draw.randrange(5, 250) for _ in range(draw.randrange(1, 40)))])
    limit = draw.choice([1, 20, 2000])
    asking = asyncio.create_task(ask(engine, prompt, max_tokens=limit, ignore_eos=True))
    await asyncio.sleep(draw.choice([0, draw.random() * 0.02, draw.random() * 0.3]))
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)


WHOLE = ("shared", "windowed", "recurrent")
KINDS = [
    "shared",
    "tight",
    "divided",
    "windowed",
    "windowed-tight",
    "windowed-divided",
    "recurrent",
]


@pytest.mark.parametrize("kind", KINDS)
async def test_requests_that_leave_at_random_times_leave_nothing(
    kind: str, options: EngineOptions, tmp_path: Path
) -> None:
    arch = {"windowed": "gemma3", "recurrent": "mamba"}.get(kind.split("-", maxsplit=1)[0])
    if arch is not None:
        path = write_model(tmp_path / "m.gguf", arch=arch)
        options = msgspec.structs.replace(options, model_path=str(path))
    draw = random.Random(7)
    fields: dict[str, object] = {
        "shared": {"n_ctx": 4096, "n_parallel": 16},
        # preempts, evicts and brings back all the time
        "tight": {"n_ctx": 512, "n_parallel": 8, "cache_ram": 16},
        "divided": {"n_ctx": 4096, "n_parallel": 8, "kv_unified": False},
        # windows of 48 for each slot and a pass of 64: those of idle prompts go and come back
        "windowed": {"n_ctx": 4096, "n_parallel": 16, "n_ubatch": 64, "swa_full": False},
        "windowed-tight": {"n_ctx": 768, "n_parallel": 4, "n_ubatch": 64, "swa_full": False},
        "windowed-divided": {
            "n_ctx": 8192,
            "n_parallel": 8,
            "n_ubatch": 64,
            "swa_full": False,
            "kv_unified": False,
        },
        "recurrent": {"n_ctx": 4096, "n_parallel": 8, "cache_ram": 16},
    }[kind]
    busy = msgspec.structs.replace(options, max_queue=REQUESTS, **fields)  # type: ignore[arg-type]
    async with checked(busy) as engine:
        n_requests = REQUESTS if kind in WHOLE else REQUESTS // 4
        flight: set[asyncio.Task[None]] = set()
        for _ in range(n_requests):
            flight.add(asyncio.create_task(leave(engine, draw)))
            if len(flight) >= 64:
                _, flight = await asyncio.wait(flight, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.gather(*flight)
        # the last cancels are on their way to the engine's thread
        for _ in range(100):
            if engine.n_active == 0 and await faults(engine) == []:
                break
            await asyncio.sleep(0.02)
        assert await faults(engine) == []
        answer = await ask(engine, TokenPrompt([7, 8, 9]), max_tokens=4, ignore_eos=True)
        assert answer.end.usage.completion_tokens == 4


async def test_a_full_queue_refuses_and_takes_again_when_requests_have_left(
    options: EngineOptions,
) -> None:
    small = msgspec.structs.replace(options, n_parallel=2, max_queue=2)
    async with checked(small) as engine:
        asking = [
            asyncio.create_task(ask(engine, TokenPrompt([7 + i]), max_tokens=1500, ignore_eos=True))
            for i in range(20)
        ]
        done, waiting = await asyncio.wait(asking, timeout=0.2)
        refused = [one for one in done if isinstance(one.exception(), OverloadedError)]
        assert len(refused) >= 14
        for one in waiting:
            one.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        async with asyncio.timeout(10):
            # until the cancels have reached the engine's thread
            while loop_of(engine).n_open:
                await asyncio.sleep(0.01)
        answer = await ask(engine, TokenPrompt([7, 8]), max_tokens=2, ignore_eos=True)
        assert answer.end.usage.completion_tokens == 2
