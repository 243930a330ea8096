"""Requests with different LoRA adapters, on the tiny model and two generated adapters."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import msgspec
import pytest

from shimmy.engine import Engine
from shimmy.engine.remote.body import body_of
from shimmy.engine.types.event import Delta, Finished
from shimmy.engine.types.options import EngineOptions
from shimmy.engine.types.prompt import TextPrompt, TokenPrompt
from shimmy.errors import InvalidRequestError, LlamaError, ModelLoadError
from tests.engine.ask import Answer, request
from tests.engine.integrity import checked
from tests.support.tiny_gguf import write_lora

LONG = [5 + i % 200 for i in range(300)]
CHOICES: list[dict[int, float] | None] = [None, {}, {0: 1.0}, {1: 1.0}, {0: 0.5, 1: 0.5}]


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("lora")
    return [str(write_lora(folder / f"{n}.gguf", seed=20 + n)) for n in range(2)]


@pytest.fixture
def with_two(options: EngineOptions, adapters: list[str]) -> EngineOptions:
    """The first is applied by default, the second only where it is asked for."""
    return msgspec.structs.replace(
        options, lora=[(adapters[0], 1.0), (adapters[1], 0.0)], n_parallel=8
    )


async def ask(
    engine: Engine,
    lora: dict[int, float] | None,
    *ends: int,
    max_tokens: int = 12,
    started: asyncio.Event | None = None,
) -> Answer:
    body = request(TokenPrompt([*LONG, *ends]), max_tokens=max_tokens, ignore_eos=True)
    answer = Answer()
    async with engine.generate(msgspec.structs.replace(body, lora=lora)) as generation:
        async for event in generation:
            if isinstance(event, Delta):
                answer.deltas.append(event.text)
                if started is not None:
                    started.set()
            elif isinstance(event, Finished):
                answer.finished = event
    return answer


async def alone(options: EngineOptions, lora: dict[int, float] | None, *ends: int) -> str:
    async with Engine.solo(options) as engine:
        return (await ask(engine, lora, *ends)).text


async def test_requests_at_once_get_what_each_gets_alone(with_two: EngineOptions) -> None:
    expected = [await alone(with_two, lora, 7) for lora in CHOICES]
    assert expected[0] == expected[2], "the default is the first adapter"
    assert len(set(expected)) == 4
    async with checked(with_two) as engine:
        answers = await asyncio.gather(*(ask(engine, lora, 7) for lora in CHOICES))
        assert [answer.text for answer in answers] == expected
        again = await asyncio.gather(*(ask(engine, lora, 7) for lora in CHOICES))
    assert [answer.text for answer in again] == expected
    assert all(answer.end.usage.cached_tokens == len(LONG) for answer in again)


async def test_a_prefix_is_not_shared_over_adapters(with_two: EngineOptions) -> None:
    async with checked(with_two) as engine:
        cached = [
            (await ask(engine, lora, 7)).end.usage.cached_tokens
            for lora in ({0: 1.0}, {1: 1.0}, {0: 0.5}, {}, {0: 1.0}, {1: 1.0, 0: 0.0})
        ]
    assert cached == [0, 0, 0, 0, len(LONG), len(LONG)]


async def test_what_comes_back_from_host_memory_is_the_same_adapters(
    with_two: EngineOptions,
) -> None:
    tight = msgspec.structs.replace(with_two, n_ctx=512, n_parallel=2, cache_ram=64)
    expected = {number: await alone(tight, {number: 1.0}, 7) for number in (0, 1)}
    async with checked(tight) as engine:
        for _ in range(2):
            for number in (0, 1):
                assert (await ask(engine, {number: 1.0}, 7)).text == expected[number]
        last = await ask(engine, {0: 1.0}, 7)
    assert last.end.usage.cached_tokens >= 256
    assert last.text == expected[0]


async def test_new_default_scales_are_for_later_requests_only(with_two: EngineOptions) -> None:
    first, second = [await alone(with_two, lora, 7) for lora in ({0: 1.0}, {1: 1.0})]
    async with checked(with_two) as engine:
        assert [(one.id, one.scale) for one in await engine.loras()] == [(0, 1.0), (1, 0.0)]
        started = asyncio.Event()
        running = asyncio.create_task(ask(engine, None, 7, max_tokens=200, started=started))
        await started.wait()
        changed = await engine.set_loras({1: 1.0})
        assert [(one.id, one.scale) for one in changed] == [(0, 0.0), (1, 1.0)]
        assert not running.done()
        assert (await ask(engine, None, 7)).text == second
        assert (await ask(engine, {0: 1.0}, 7)).text == first
        long = (await running).text
    async with checked(with_two) as engine:
        assert long == (await ask(engine, {0: 1.0}, 7, max_tokens=200)).text


async def test_embeddings_are_made_with_the_default_scales(with_two: EngineOptions) -> None:
    async with checked(with_two) as engine:
        inputs = [TextPrompt("the quick brown fox")]
        one = (await engine.embed(inputs)).vectors
        # rows with other adapters do not change what embeds
        await ask(engine, {1: 1.0}, 7)
        assert (await engine.embed(inputs)).vectors == one
        await engine.set_loras({})
        none = (await engine.embed(inputs)).vectors
        assert none != one
        await engine.set_loras({0: 1.0})
        assert (await engine.embed(inputs)).vectors == one
    async with checked(msgspec.structs.replace(with_two, lora=[])) as engine:
        assert (await engine.embed(inputs)).vectors == none


async def test_a_saved_session_is_for_its_adapters_only(
    with_two: EngineOptions, tmp_path: Path
) -> None:
    saving = msgspec.structs.replace(
        with_two, n_parallel=2, slot_save_path=str(tmp_path), cache_ram=0
    )
    async with checked(saving) as engine:
        first = await ask(engine, {1: 1.0}, 7)
        saved = await engine.slot_action(0, "save", "talk.bin")
    # known by their content: they may have other numbers now
    turned = msgspec.structs.replace(saving, lora=saving.lora[::-1])
    async with checked(turned) as engine:
        restored = await engine.slot_action(0, "restore", "talk.bin")
        assert restored.n_tokens == saved.n_tokens
        assert (await ask(engine, {1: 1.0}, 7)).end.usage.cached_tokens == 0
        again = await ask(engine, {0: 1.0}, 7)
    assert again.end.usage.cached_tokens == len(LONG)
    assert again.text == first.text
    async with checked(msgspec.structs.replace(saving, lora=[])) as engine:
        with pytest.raises(InvalidRequestError, match="adapters that are not loaded"):
            await engine.slot_action(0, "restore", "talk.bin")


async def test_a_session_says_when_its_adapters_file_is_gone(
    options: EngineOptions, tmp_path: Path
) -> None:
    path = write_lora(tmp_path / "gone.gguf")
    saving = msgspec.structs.replace(
        options, lora=[(str(path), 1.0)], n_parallel=2, slot_save_path=str(tmp_path)
    )
    async with checked(saving) as engine:
        await ask(engine, None, 7)
        path.unlink()
        with pytest.raises(LlamaError, match=r"gone\.gguf cannot be read any more"):
            await engine.slot_action(0, "save", "talk.bin")


async def test_a_damaged_list_of_adapters_in_a_session_is_refused(
    with_two: EngineOptions, tmp_path: Path
) -> None:
    saving = msgspec.structs.replace(with_two, n_parallel=2, slot_save_path=str(tmp_path))
    async with checked(saving) as engine:
        await ask(engine, {1: 1.0}, 7)
        await engine.slot_action(0, "save", "talk.bin")
        path = tmp_path / "talk.bin"
        content = bytearray(path.read_bytes())
        content[content.index(b'[["') + 4] ^= 1
        path.write_bytes(content)
        with pytest.raises(InvalidRequestError, match="it is damaged"):
            await engine.slot_action(0, "restore", "talk.bin")


async def test_an_unknown_adapter_is_refused_and_nothing_else_suffers(
    with_two: EngineOptions,
) -> None:
    async with checked(with_two) as engine:
        for bad in ({2: 1.0}, {0: float("nan")}, {0: 1e9}, {-1: 1.0}):
            with pytest.raises(InvalidRequestError) as caught:
                await ask(engine, bad, 7)
            assert caught.value.param == "lora"
            with pytest.raises(InvalidRequestError) as caught:
                await engine.set_loras(bad)
            assert caught.value.param == "lora"
        assert (await ask(engine, None, 7)).text
    async with checked(msgspec.structs.replace(with_two, lora=[])) as engine:
        with pytest.raises(InvalidRequestError, match="it has none"):
            await ask(engine, {0: 1.0}, 7)
        assert await engine.loras() == []


async def test_an_activated_lora_is_refused(options: EngineOptions, tmp_path: Path) -> None:
    path = write_lora(tmp_path / "alora.gguf", invocation=(5, 6))
    with pytest.raises(ModelLoadError, match="aLoRA"):
        async with Engine.solo(msgspec.structs.replace(options, lora=[(str(path), 1.0)])):
            pass


def test_another_server_is_asked_for_the_same_adapters() -> None:
    body = msgspec.structs.replace(request("Hi"), lora={1: 0.5})
    assert body_of(body)[1]["lora"] == [{"id": 1, "scale": 0.5}]
    assert "lora" not in body_of(request("Hi"))[1]


async def test_changed_scales_outlast_the_worker(with_two: EngineOptions) -> None:
    async with Engine.child(with_two) as engine:
        first = (await ask(engine, None, 7)).text
        await engine.set_loras({1: 0.5})
        changed = (await ask(engine, None, 7)).text
        assert changed != first
        with pytest.raises(InvalidRequestError):
            await engine.set_loras({7: 1.0})
        for restarts in (1, 2):
            assert engine.worker_pid is not None
            os.kill(engine.worker_pid, signal.SIGKILL)
            while engine.restarts < restarts:
                await asyncio.sleep(0.01)
            assert [(one.id, one.scale) for one in await engine.loras()] == [(0, 0.0), (1, 0.5)]
            assert (await ask(engine, None, 7)).text == changed
