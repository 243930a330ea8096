"""Options of the context: what they do, and which cannot be."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from shimmy.engine import Engine
from shimmy.engine.types.options import EngineOptions
from shimmy.engine.types.prompt import TokenPrompt
from shimmy.errors import ConfigError, ContextLengthError
from tests.engine.ask import ask
from tests.engine.integrity import checked, loop_of
from tests.support.tiny_gguf import write_model

SYSTEM = [5 + i % 200 for i in range(300)]


def prompt(*ends: int) -> TokenPrompt:
    return TokenPrompt([*SYSTEM, *ends])


@pytest.fixture
def divided(options: EngineOptions) -> EngineOptions:
    return msgspec.structs.replace(options, n_ctx=2048, n_parallel=4, kv_unified=False)


async def test_without_unified_cells_each_slot_has_its_part(divided: EngineOptions) -> None:
    async with checked(divided) as engine:
        assert engine.info is not None
        assert engine.info.n_ctx == 2048
        assert engine.info.n_ctx_row == 512
        with pytest.raises(ContextLengthError, match="512"):
            await ask(engine, TokenPrompt([7] * 512))


async def test_without_unified_cells_all_slots_can_be_full_at_once(divided: EngineOptions) -> None:
    async with checked(divided) as engine:
        answers = await asyncio.gather(
            *(ask(engine, prompt(20 + i), max_tokens=None, ignore_eos=True) for i in range(6))
        )
    assert [answer.end.usage.completion_tokens for answer in answers] == [211] * 6


async def test_without_unified_cells_a_conversation_still_goes_on(divided: EngineOptions) -> None:
    async with checked(divided) as engine:
        first = await ask(engine, prompt(7), max_tokens=8, ignore_eos=True)
        again = await ask(engine, prompt(7), max_tokens=8, ignore_eos=True)
        other = await ask(engine, prompt(8), max_tokens=8, ignore_eos=True)
    async with checked(divided) as engine:
        alone = await ask(engine, prompt(8), max_tokens=8, ignore_eos=True)
    assert again.end.usage.cached_tokens == len(SYSTEM)
    assert other.end.usage.cached_tokens == len(SYSTEM)
    assert again.text == first.text
    assert other.text == alone.text


@pytest.mark.parametrize(("k", "v"), [("q8_0", "q8_0"), ("f16", "q4_0"), ("f32", "f32")])
async def test_cache_types_answer(options: EngineOptions, k: str, v: str) -> None:
    quantised = msgspec.structs.replace(options, cache_type_k=k, cache_type_v=v)
    async with checked(quantised) as engine:
        await ask(engine, prompt(7), max_tokens=4, ignore_eos=True)
        again = await ask(engine, prompt(8), max_tokens=4, ignore_eos=True)
    assert again.end.usage.cached_tokens == len(SYSTEM)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"cache_type_v": "q8_0", "flash_attn": "off"}, ["--cache-type-v", "flash attention"]),
        ({"flash_attn": "maybe"}, ["--flash-attn", "auto, on, off"]),
        ({"cache_type_k": "q2_k"}, ["--cache-type-k", "q8_0"]),
        ({"n_parallel": 257}, ["-np/--parallel", "256"]),
        ({"rope_scaling": "cubic"}, ["--rope-scaling", "yarn"]),
        ({"n_threads_batch": 1000}, ["--threads-batch", "512"]),
        ({"rope_freq_scale": float("nan")}, ["--rope-freq-scale"]),
    ],
)
async def test_what_cannot_be_names_its_flag(
    options: EngineOptions, fields: dict[str, object], words: list[str]
) -> None:
    engine = Engine.solo(msgspec.structs.replace(options, **fields))  # type: ignore[arg-type]
    with pytest.raises(ConfigError) as refused:
        async with engine:
            pass
    assert all(word in refused.value.message for word in words), refused.value.message


async def test_a_head_that_a_cache_type_does_not_divide_is_refused_with_a_reason(
    options: EngineOptions, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # the tiny model's heads have 32 values each: one block of q8_0; no type here has larger ones
    async with checked(msgspec.structs.replace(options, cache_type_k="iq4_nl")) as engine:
        await ask(engine, prompt(7), max_tokens=2)
    path = write_model(tmp_path_factory.mktemp("m") / "m.gguf", arch="mamba")
    recurrent = msgspec.structs.replace(options, model_path=str(path), kv_unified=False)
    with pytest.raises(ConfigError, match="--no-kv-unified"):
        async with Engine.solo(recurrent):
            pass


async def test_positions_can_be_stretched_beyond_the_training_context(
    options: EngineOptions, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = write_model(tmp_path_factory.mktemp("m") / "m.gguf", n_ctx=128)
    short = msgspec.structs.replace(options, model_path=str(path), n_ctx=512, n_parallel=1)
    async with checked(short) as engine:
        with pytest.raises(ContextLengthError):
            await ask(engine, prompt(7))
        plain = await ask(engine, TokenPrompt(SYSTEM[:100]), max_tokens=8, ignore_eos=True)
    stretched = msgspec.structs.replace(short, rope_scaling="linear", rope_freq_scale=0.25)
    async with checked(stretched) as engine:
        assert engine.info is not None
        assert engine.info.n_ctx_row == 512
        await ask(engine, prompt(7), max_tokens=8)
        other = await ask(engine, TokenPrompt(SYSTEM[:100]), max_tokens=8, ignore_eos=True)
    assert other.text != plain.text


async def test_yarn_and_rope_base_change_what_is_computed(options: EngineOptions) -> None:
    texts = []
    for fields in (
        {},
        {"rope_freq_base": 500.0},
        {"rope_scaling": "yarn", "rope_freq_scale": 0.25, "yarn_orig_ctx": 512},
    ):
        async with checked(msgspec.structs.replace(options, **fields)) as engine:  # type: ignore[arg-type]
            texts.append((await ask(engine, prompt(7), max_tokens=8, ignore_eos=True)).text)
    assert len(set(texts)) == 3


async def test_threads_for_batches_may_differ(options: EngineOptions) -> None:
    threads = msgspec.structs.replace(options, n_threads=1, n_threads_batch=2)
    async with checked(threads) as engine:
        assert loop_of(engine)._runner._context.n_threads == (1, 2)  # type: ignore[attr-defined]
        await ask(engine, prompt(7), max_tokens=2)


async def test_more_slots_than_tokens_of_context_still_answer(options: EngineOptions) -> None:
    async with checked(msgspec.structs.replace(options, n_ctx=256, n_parallel=256)) as engine:
        answers = await asyncio.gather(
            *(
                ask(engine, TokenPrompt([7, 9 + i]), max_tokens=4, ignore_eos=True)
                for i in range(64)
            )
        )
    assert [answer.end.usage.completion_tokens for answer in answers] == [4] * 64
