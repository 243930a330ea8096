"""Prompts that begin alike share their cells, and say what they would say alone."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from shimmy.engine.types.options import EngineOptions
from shimmy.engine.types.prompt import TokenPrompt
from tests.engine.ask import ask
from tests.engine.integrity import checked
from tests.support.tiny_gguf import write_model

SYSTEM = [5 + i % 200 for i in range(300)]


def prompt(*ends: int) -> TokenPrompt:
    return TokenPrompt([*SYSTEM, *ends])


async def alone(options: EngineOptions, *ends: int) -> str:
    """What the prompt gets from an engine that has seen nothing else."""
    async with checked(options) as engine:
        return (await ask(engine, prompt(*ends), max_tokens=8, ignore_eos=True)).text


async def test_a_prefix_of_a_finished_request_is_not_computed_again(
    options: EngineOptions,
) -> None:
    async with checked(options) as engine:
        first = await ask(engine, prompt(7), max_tokens=8, ignore_eos=True)
        second = await ask(engine, prompt(8), max_tokens=8, ignore_eos=True)
    assert first.end.usage.cached_tokens == 0
    assert second.end.usage.cached_tokens == len(SYSTEM)
    assert second.end.usage.prompt_tokens == len(SYSTEM) + 1
    assert second.text == await alone(options, 8)


async def test_a_prefix_of_a_running_request_is_shared(options: EngineOptions) -> None:
    async with checked(options) as engine:
        generating = asyncio.Event()
        endless = asyncio.create_task(
            ask(engine, prompt(7), max_tokens=None, ignore_eos=True, generating=generating)
        )
        await generating.wait()
        answer = await ask(engine, prompt(8), max_tokens=8, ignore_eos=True)
        assert not endless.done()
        endless.cancel()
        await asyncio.gather(endless, return_exceptions=True)
    assert answer.end.usage.cached_tokens == len(SYSTEM)


async def test_a_conversation_goes_on_where_it_ended(options: EngineOptions) -> None:
    async with checked(options) as engine:
        first = await ask(engine, prompt(7), max_tokens=1, ignore_eos=True)
        again = await ask(engine, prompt(7, 9, 11), max_tokens=8, ignore_eos=True)
    assert first.end.usage.completion_tokens == 1
    assert again.end.usage.cached_tokens == len(SYSTEM) + 1
    assert again.text == await alone(options, 7, 9, 11)


async def test_many_requests_share_a_prompt_that_would_not_fit_once_for_each(
    options: EngineOptions,
) -> None:
    tight = msgspec.structs.replace(options, n_ctx=768, n_parallel=8)
    async with checked(tight) as engine:
        await ask(engine, prompt(1), max_tokens=1, ignore_eos=True)
        answers = await asyncio.gather(
            *(ask(engine, prompt(20 + i), max_tokens=8, ignore_eos=True) for i in range(8))
        )
    assert [answer.end.usage.cached_tokens for answer in answers] == [len(SYSTEM)] * 8
    assert all(answer.end.usage.completion_tokens == 8 for answer in answers)


@pytest.fixture
def recurrent(options: EngineOptions, tmp_path_factory: pytest.TempPathFactory) -> EngineOptions:
    path = write_model(tmp_path_factory.mktemp("arch") / "m.gguf", arch="mamba")
    return msgspec.structs.replace(options, model_path=str(path))


async def test_recurrent_memory_without_a_host_cache_shares_nothing_and_still_answers(
    recurrent: EngineOptions,
) -> None:
    bare = msgspec.structs.replace(recurrent, cache_ram=0)
    async with checked(bare) as engine:
        first = await ask(engine, prompt(7), max_tokens=8, ignore_eos=True)
        again = await ask(engine, prompt(7), max_tokens=8, ignore_eos=True)
        together = await asyncio.gather(
            *(ask(engine, prompt(7), max_tokens=8, ignore_eos=True) for _ in range(4))
        )
    assert again.end.usage.cached_tokens == 0
    assert again.text == first.text
    assert all(answer.end.usage.completion_tokens == 8 for answer in together)


async def test_recurrent_memory_goes_on_where_a_conversation_ended(
    recurrent: EngineOptions,
) -> None:
    async with checked(recurrent) as engine:
        first = await ask(engine, prompt(7), max_tokens=1, ignore_eos=True)
        again = await ask(engine, prompt(7, 9, 11), max_tokens=8, ignore_eos=True)
    assert first.end.usage.cached_tokens == 0
    assert again.end.usage.cached_tokens == len(SYSTEM) + 1
    assert again.text == await alone(recurrent, 7, 9, 11)


async def test_recurrent_memory_goes_on_from_the_checkpoint_near_a_prompts_end(
    recurrent: EngineOptions,
) -> None:
    async with checked(recurrent) as engine:
        await ask(engine, prompt(7, 8, 9, 10), max_tokens=8, ignore_eos=True)
        again = await ask(engine, prompt(99), max_tokens=8, ignore_eos=True)
        same = await ask(engine, prompt(7, 8, 9, 10), max_tokens=8, ignore_eos=True)
    assert again.end.usage.cached_tokens == len(SYSTEM)
    assert again.text == await alone(recurrent, 99)
    assert same.end.usage.cached_tokens == len(SYSTEM)
    assert same.text == await alone(recurrent, 7, 8, 9, 10)
