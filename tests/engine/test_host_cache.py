"""Prompts that left the KV cells come back from host memory, and say what they said before."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from shimmy.engine import Engine
from shimmy.engine.types.options import EngineOptions
from shimmy.engine.types.prompt import TokenPrompt
from shimmy.worker import pager
from tests.engine.ask import ask
from tests.engine.integrity import checked, loop_of

N = 300
FIRST = [5 + i % 200 for i in range(N)]
OTHERS = [[5 + (k + i * k) % 250 for i in range(N)] for k in range(3, 8)]


@pytest.fixture
def small(options: EngineOptions) -> EngineOptions:
    """Cells for two and a half of these prompts, of which idle ones keep at most half."""
    return msgspec.structs.replace(options, n_ctx=768, n_parallel=2, cache_ram=64)


async def fill(engine: Engine) -> None:
    """Push everything idle out of the cells."""
    for other in OTHERS:
        await ask(engine, TokenPrompt(other), max_tokens=4, ignore_eos=True)


def cache(engine: Engine) -> Any:
    return loop_of(engine)._paging._cache


async def test_an_evicted_prompt_is_brought_back_and_answers_as_before(
    small: EngineOptions,
) -> None:
    async with checked(small) as engine:
        first = await ask(engine, TokenPrompt([*FIRST, 7]), max_tokens=8, ignore_eos=True)
        await fill(engine)
        again = await ask(engine, TokenPrompt([*FIRST, 7]), max_tokens=8, ignore_eos=True)
    assert first.end.usage.cached_tokens == 0
    # whole blocks of 64 come back
    assert again.end.usage.cached_tokens == 256
    assert again.text == first.text


async def test_without_a_host_cache_it_is_computed_again(small: EngineOptions) -> None:
    async with checked(msgspec.structs.replace(small, cache_ram=0)) as engine:
        first = await ask(engine, TokenPrompt([*FIRST, 7]), max_tokens=8, ignore_eos=True)
        await fill(engine)
        again = await ask(engine, TokenPrompt([*FIRST, 7]), max_tokens=8, ignore_eos=True)
    assert again.end.usage.cached_tokens == 0
    assert again.text == first.text


async def test_what_is_resident_is_not_brought_back(small: EngineOptions) -> None:
    async with checked(small) as engine:
        await ask(engine, TokenPrompt([*FIRST, 7]), max_tokens=8, ignore_eos=True)
        await fill(engine)
        await ask(engine, TokenPrompt([*FIRST[:100], 7]), max_tokens=4, ignore_eos=True)
        again = await ask(engine, TokenPrompt([*FIRST, 9]), max_tokens=8, ignore_eos=True)
        alone = await ask(engine, TokenPrompt([*FIRST, 9]), max_tokens=8, ignore_eos=True)
    assert again.end.usage.cached_tokens == 256
    assert alone.end.usage.cached_tokens == N
    assert alone.text == again.text


async def test_damaged_blocks_are_computed_again(small: EngineOptions) -> None:
    async with checked(small) as engine:
        first = await ask(engine, TokenPrompt([*FIRST, 7]), max_tokens=8, ignore_eos=True)
        await fill(engine)
        for entry in cache(engine)._entries.values():
            entry.data[entry.data.nbytes // 2] ^= 1
        again = await ask(engine, TokenPrompt([*FIRST, 7]), max_tokens=8, ignore_eos=True)
    assert again.end.usage.cached_tokens == 0
    assert again.text == first.text


async def test_the_host_cache_stays_within_its_bytes(small: EngineOptions) -> None:
    tight = msgspec.structs.replace(small, cache_ram=1)
    async with checked(tight) as engine:
        for k in range(12):
            prompt = [5 + (k * 7 + i * (k + 1)) % 250 for i in range(600)]
            await ask(engine, TokenPrompt(prompt), max_tokens=2, ignore_eos=True)
        held = cache(engine)
        assert 0 < held.n_bytes <= 1 << 20
        assert held.n_bytes == sum(entry.data.nbytes for entry in held._entries.values())


async def test_rows_go_on_while_a_prompt_is_brought_back(small: EngineOptions) -> None:
    async with checked(small) as engine:
        first = await ask(engine, TokenPrompt([*FIRST, 7]), max_tokens=8, ignore_eos=True)
        await fill(engine)
        generating = asyncio.Event()
        endless = asyncio.create_task(
            ask(engine, TokenPrompt([9]), max_tokens=200, ignore_eos=True, generating=generating)
        )
        await generating.wait()
        again = await ask(engine, TokenPrompt([*FIRST, 7]), max_tokens=8, ignore_eos=True)
        long = await endless
    assert again.end.usage.cached_tokens == 256
    assert again.text == first.text
    assert long.end.usage.completion_tokens == 200


async def test_a_request_that_leaves_while_it_is_brought_back_leaves_nothing(
    small: EngineOptions,
) -> None:
    async with checked(small) as engine:
        await ask(engine, TokenPrompt([*FIRST, 7]), max_tokens=8, ignore_eos=True)
        await fill(engine)
        for _ in range(20):
            gone = asyncio.create_task(
                ask(engine, TokenPrompt([*FIRST, 7]), max_tokens=8, ignore_eos=True)
            )
            await asyncio.sleep(0.0005)
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
            await fill(engine)


def test_a_block_is_smaller_where_tokens_are_large() -> None:
    assert pager.block_size(1024) == 64
    assert pager.block_size(200 << 10) == 32
    assert pager.block_size(64 << 20) == 16
