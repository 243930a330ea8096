"""A full context: the end of the answer, or room made in it."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from shimmy.engine import Engine
from shimmy.engine.types.options import EngineOptions
from shimmy.engine.types.prompt import TokenPrompt
from shimmy.engine.types.request import GenerateRequest
from shimmy.engine.types.sampling import SamplingParams
from shimmy.errors import ConfigError
from tests.engine.ask import ask
from tests.engine.integrity import checked, loop_of
from tests.support.tiny_gguf import write_model

PROMPT = TokenPrompt([5 + i % 200 for i in range(100)])


@pytest.fixture
def shifting(options: EngineOptions) -> EngineOptions:
    """Each of three rows may hold 256 tokens."""
    return msgspec.structs.replace(options, n_ctx=768, n_parallel=3, context_shift=True)


def ending(shifting: EngineOptions) -> EngineOptions:
    """The same context for a row, without the shift."""
    return msgspec.structs.replace(shifting, n_ctx=256, n_parallel=1, context_shift=False)


async def test_endless_answers_in_all_slots_but_one_leave_that_one_its_part(
    shifting: EngineOptions,
) -> None:
    async with checked(shifting) as engine:
        started = [asyncio.Event(), asyncio.Event()]
        endless = [
            asyncio.create_task(
                ask(
                    engine,
                    TokenPrompt([9 + i] * 20),
                    max_tokens=10**9,
                    ignore_eos=True,
                    generating=event,
                )
            )
            for i, event in enumerate(started)
        ]
        for event in started:
            await event.wait()
        await asyncio.sleep(0.3)
        async with asyncio.timeout(20):
            filled = await ask(engine, PROMPT, max_tokens=150, ignore_eos=True)
        assert filled.end.usage.completion_tokens == 150
        for one in endless:
            one.cancel()
        await asyncio.gather(*endless, return_exceptions=True)
        async with asyncio.timeout(10):
            while loop_of(engine).n_open:
                await asyncio.sleep(0.01)


async def test_without_shift_an_answer_ends_with_its_context(shifting: EngineOptions) -> None:
    async with checked(ending(shifting)) as engine:
        answer = await ask(engine, PROMPT, max_tokens=1000, ignore_eos=True)
    assert answer.end.reason == "length"
    assert answer.end.usage.completion_tokens == 156


async def test_with_shift_it_goes_on_to_its_limit(shifting: EngineOptions) -> None:
    async with checked(shifting) as engine:
        answer = await ask(engine, PROMPT, max_tokens=1000, ignore_eos=True)
        after = await ask(engine, PROMPT, max_tokens=4, ignore_eos=True)
    assert answer.end.usage.completion_tokens == 1000
    assert answer.end.usage.prompt_tokens == 100
    # what was moved is not what the prompt's tokens would give: nobody else gets it
    assert after.end.usage.cached_tokens == 0


async def test_a_prompt_that_begins_like_a_shifted_row_computes_what_was_moved(
    shifting: EngineOptions,
) -> None:
    async with Engine.solo(shifting) as engine:
        alone = await ask(engine, PROMPT, max_tokens=8, ignore_eos=True)
    async with checked(shifting) as engine:
        await ask(engine, PROMPT, max_tokens=300, ignore_eos=True)
        after = await ask(engine, PROMPT, max_tokens=8, ignore_eos=True)
    assert after.text == alone.text


async def test_what_comes_before_the_shift_is_unchanged(shifting: EngineOptions) -> None:
    async with checked(shifting) as engine:
        answer = await ask(engine, PROMPT, max_tokens=400, ignore_eos=True)
    async with checked(ending(shifting)) as engine:
        short = await ask(engine, PROMPT, max_tokens=400, ignore_eos=True)
    assert answer.text.startswith(short.text.rstrip("�"))
    assert len(answer.text) > len(short.text)


async def test_rows_that_share_a_prompt_shift_without_touching_each_other(
    shifting: EngineOptions,
) -> None:
    async with Engine.solo(shifting) as engine:
        alone = await ask(engine, PROMPT, max_tokens=8, ignore_eos=True)
    async with checked(shifting) as engine:
        generating = asyncio.Event()
        endless = asyncio.create_task(
            ask(engine, PROMPT, max_tokens=1500, ignore_eos=True, generating=generating)
        )
        await generating.wait()
        beside = [await ask(engine, PROMPT, max_tokens=60, ignore_eos=True) for _ in range(5)]
        long = await endless
        after = await ask(engine, PROMPT, max_tokens=8, ignore_eos=True)
    assert long.end.usage.completion_tokens == 1500
    assert [answer.end.usage.cached_tokens for answer in beside] == [99] * 5
    # the cells that were shared are as they were
    assert after.end.usage.cached_tokens == 99
    assert after.text == alone.text


async def test_n_keep_first_tokens_stay_and_serve_others(shifting: EngineOptions) -> None:
    request = GenerateRequest(
        prompt=PROMPT,
        sampling=SamplingParams(temperature=0.0, ignore_eos=True),
        max_tokens=None,
        n_keep=64,
    )
    async with checked(shifting) as engine:
        async with engine.generate(request) as generation:
            n_seen = 0
            async for _ in generation:
                n_seen += 1
                if n_seen == 400:
                    break
            other = await ask(engine, PROMPT, max_tokens=2, ignore_eos=True)
        await asyncio.sleep(0.05)
    assert other.end.usage.cached_tokens == 64


async def test_memory_that_cannot_shift_is_refused_by_name_of_the_flag(
    shifting: EngineOptions, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for arch in ("mamba", "qwen2vl"):
        path = write_model(tmp_path_factory.mktemp(arch) / "m.gguf", arch=arch)
        engine = Engine.solo(msgspec.structs.replace(shifting, model_path=str(path)))
        with pytest.raises(ConfigError, match="--context-shift"):
            async with engine:
                pass
