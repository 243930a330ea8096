"""Layers with a sliding window that keep no more than it: answers are those of a full cache."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shimmy.engine import Engine
from shimmy.engine.types.options import EngineOptions
from shimmy.engine.types.prompt import TokenPrompt
from shimmy.worker.resident import prefix_key, tokens_of
from tests.engine.ask import Answer, ask
from tests.engine.integrity import checked, loop_of
from tests.support.tiny_gguf import write_model

N = 700
TEXT = [5 + (i * i) % 211 for i in range(N)]
"""Much longer than the window."""

ROWS = 4
CELLS = 256
"""Of the layers with a window: four windows of 48, a pass of 64, in steps of 256."""


@pytest.fixture(scope="module")
def swa_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("swa") / "swa.gguf", arch="gemma3", n_layer=4)


@pytest.fixture
def windowed(swa_gguf: Path, options: EngineOptions) -> EngineOptions:
    return msgspec.structs.replace(
        options,
        model_path=str(swa_gguf),
        n_parallel=ROWS,
        n_ctx=4096,
        n_ubatch=64,
        n_batch=256,
        cache_ram=64,
        swa_full=False,
    )


def full(options: EngineOptions) -> EngineOptions:
    """Return options under which each prompt is computed by itself, and all of it is kept."""
    return msgspec.structs.replace(options, swa_full=True, cache_ram=0)


async def say(engine: Engine, tokens: list[int], n: int = 12, **more: Any) -> Answer:
    return await ask(engine, TokenPrompt(tokens), max_tokens=n, ignore_eos=True, **more)


async def expected(options: EngineOptions, *prompts: list[int], n: int = 12) -> list[str]:
    """Return what a full cache answers to each, none of which knows of another."""
    texts = []
    for prompt in prompts:
        async with checked(full(options)) as engine:
            texts.append((await say(engine, prompt, n)).text)
    return texts


def fed(engine: Engine, prompt: list[int]) -> list[int]:
    """Return a prompt and what was generated after it, but the last token: what is in the cells."""
    index = loop_of(engine)._scheduler._index
    key = prefix_key([*prompt, 0])
    return max((tokens_of(r.tokens) for r in index.idle() if r.tokens.startswith(key)), key=len)


async def test_the_cache_is_small_and_says_so(windowed: EngineOptions) -> None:
    async with checked(windowed) as engine:
        window = loop_of(engine)._paging._window
        assert window.n_cells == CELLS


async def test_long_prompts_side_by_side_are_answered_as_with_a_full_cache(
    windowed: EngineOptions,
) -> None:
    prompts = [TEXT[i * 30 : N - i * 20] for i in range(6)]
    async with checked(windowed) as engine:
        answers = await asyncio.gather(*(say(engine, prompt, 60) for prompt in prompts))
    assert [answer.text for answer in answers] == await expected(windowed, *prompts, n=60)


async def test_a_conversation_goes_on_where_it_ended(windowed: EngineOptions) -> None:
    async with checked(windowed) as engine:
        await say(engine, [*TEXT, 7])
        second = [*fed(engine, [*TEXT, 7]), 9, 10]
        again = await say(engine, second)
    assert again.end.usage.cached_tokens == N + 1 + 11
    assert again.text == (await expected(windowed, second))[0]


async def test_a_turn_that_was_written_differently_goes_on_from_near_the_prompts_end(
    windowed: EngineOptions,
) -> None:
    other = [*TEXT, 8, 9]
    async with checked(windowed) as engine:
        await say(engine, [*TEXT, 7], 300)
        again = await say(engine, other)
    assert again.end.usage.cached_tokens == N + 1 - 4
    assert again.text == (await expected(windowed, other))[0]


async def test_another_question_about_the_same_text_goes_on_from_a_checkpoint(
    windowed: EngineOptions,
) -> None:
    other = [*TEXT[:400], *range(30, 90)]
    async with checked(windowed) as engine:
        await say(engine, TEXT, 300)
        again = await say(engine, other)
    # 516 before the end of the first
    assert again.end.usage.cached_tokens == N - 516
    assert again.text == (await expected(windowed, other))[0]


async def test_prompts_that_begin_alike_are_computed_once(windowed: EngineOptions) -> None:
    prompts = [[*TEXT[:500], *range(20 + 9 * i, 70 + 9 * i)] for i in range(ROWS * 2)]
    async with checked(windowed) as engine:
        answers = await asyncio.gather(*(say(engine, prompt, 80) for prompt in prompts))
    cached = sorted(answer.end.usage.cached_tokens for answer in answers)
    assert cached == [0, *[500] * (ROWS * 2 - 1)]
    assert [answer.text for answer in answers] == await expected(windowed, *prompts, n=80)


@pytest.mark.parametrize("fields", [{"cache_ram": 0}, {"ctx_checkpoints": 0}])
async def test_without_checkpoints_they_share_what_is_in_the_cells(
    windowed: EngineOptions, fields: dict[str, int]
) -> None:
    bare = msgspec.structs.replace(windowed, **fields)  # type: ignore[arg-type]
    other = [*TEXT[:400], 9]
    async with checked(bare) as engine:
        await say(engine, TEXT)
        on = [*fed(engine, TEXT), 9]
        goes_on = await say(engine, on)
        branches = await say(engine, other)
    assert goes_on.end.usage.cached_tokens == N + 11
    assert branches.end.usage.cached_tokens == 0
    assert [goes_on.text, branches.text] == await expected(windowed, on, other)


async def test_more_conversations_than_windows_all_go_on(windowed: EngineOptions) -> None:
    """Idle ones give up their windows, which come back; nothing is computed anew."""
    prompts = [[*TEXT[:100], 20 + i, *TEXT[:100]] for i in range(16)]
    async with checked(msgspec.structs.replace(windowed, n_ctx=8192)) as engine:
        for prompt in prompts:
            await say(engine, prompt)
        nexts = [[*fed(engine, prompt), 9] for prompt in prompts]
        answers = [await say(engine, prompt) for prompt in nexts]
    assert [answer.end.usage.cached_tokens for answer in answers] == [201 + 11] * 16
    assert [answer.text for answer in answers] == await expected(windowed, *nexts)


async def test_an_evicted_conversation_is_brought_back(windowed: EngineOptions) -> None:
    small = msgspec.structs.replace(windowed, n_ctx=2048, n_parallel=2)
    others = [[5 + (k + i * k) % 250 for i in range(N)] for k in range(3, 8)]
    async with checked(small) as engine:
        first = await say(engine, TEXT)
        for other in others:
            await say(engine, other)
        assert loop_of(engine)._scheduler._index.n_shared(bytes(4)) == 0
        again = await say(engine, TEXT)
    assert again.end.usage.cached_tokens == N - 4
    assert again.text == first.text == (await expected(windowed, TEXT))[0]


async def test_damaged_checkpoints_are_computed_again(windowed: EngineOptions) -> None:
    other = [*TEXT, 8, 9]
    async with checked(windowed) as engine:
        await say(engine, [*TEXT, 7], 300)
        for entry in loop_of(engine)._paging._checkpoints._cache._entries.values():
            entry.data[entry.data.nbytes // 2] ^= 1
        again = await say(engine, other)
    assert again.end.usage.cached_tokens == 0
    assert again.text == (await expected(windowed, other))[0]


async def test_rows_are_preempted_and_go_on(windowed: EngineOptions) -> None:
    tight = msgspec.structs.replace(windowed, n_ctx=1024, n_parallel=4)
    prompts = [[20 + i, *TEXT[:200]] for i in range(4)]
    async with checked(tight) as engine:
        answers = await asyncio.gather(*(say(engine, prompt, 150) for prompt in prompts))
    assert [answer.text for answer in answers] == await expected(windowed, *prompts, n=150)


async def test_slots_with_cells_of_their_own_go_on_too(windowed: EngineOptions) -> None:
    divided = msgspec.structs.replace(windowed, kv_unified=False, n_ctx=4096, n_parallel=2)
    other = [*TEXT[:300], 8, 9]
    async with checked(divided) as engine:
        await say(engine, TEXT)
        on = [*fed(engine, TEXT), 9]
        goes_on = await say(engine, on)
        branches = await say(engine, other)
    assert goes_on.end.usage.cached_tokens == N + 11
    assert branches.end.usage.cached_tokens == 0
    assert [goes_on.text, branches.text] == await expected(windowed, on, other)


@pytest.mark.parametrize("swa_full", [True, False])
async def test_a_restored_session_goes_on_and_branches(
    windowed: EngineOptions, swa_full: bool, tmp_path: Path
) -> None:
    saving = msgspec.structs.replace(windowed, slot_save_path=str(tmp_path), swa_full=swa_full)
    other = [*TEXT[:400], 9]
    async with checked(saving) as engine:
        await say(engine, TEXT)
        await engine.slot_action(0, "save", "talk.bin")
        on = [*fed(engine, TEXT), 9]
    async with checked(saving) as engine:
        await engine.slot_action(0, "restore", "talk.bin")
        branches = await say(engine, other)
        goes_on = await say(engine, on)
    assert goes_on.end.usage.cached_tokens == N + 11
    # the file has only the window behind the last token
    assert branches.end.usage.cached_tokens == 0
    assert [goes_on.text, branches.text] == await expected(windowed, on, other)


async def test_a_session_is_saved_though_its_window_has_left_the_cells(
    windowed: EngineOptions, tmp_path: Path
) -> None:
    saving = msgspec.structs.replace(windowed, slot_save_path=str(tmp_path), n_parallel=2)
    async with checked(saving) as engine:
        await say(engine, TEXT)
        on = [*fed(engine, TEXT), 9]
        paging = loop_of(engine)._paging
        while any(paging._window.holds(one.seq_id) for one in paging._index.idle()):
            paging.relieve()
        await engine.slot_action(0, "save", "talk.bin")
    async with checked(saving) as engine:
        await engine.slot_action(0, "restore", "talk.bin")
        goes_on = await say(engine, on)
    assert goes_on.end.usage.cached_tokens == N + 11
    assert goes_on.text == (await expected(windowed, on))[0]
