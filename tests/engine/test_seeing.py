"""Conversations with images: what a model sees, and what it costs the others."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from shimmy.engine import Engine
from shimmy.engine.types.event import Delta, Event, TokenLogprob
from shimmy.engine.types.options import EngineOptions
from shimmy.engine.types.prompt import ChatPrompt, Message
from shimmy.engine.types.request import GenerateRequest
from shimmy.errors import ContextLengthError, InvalidRequestError, ModelLoadError
from tests.engine.ask import Answer, ask, chat, request
from tests.engine.integrity import checked
from tests.support.vision import Kind, make_pair, picture

KINDS: tuple[Kind, ...] = ("llava", "qwen2vl", "gemma3")
MARK = "<image-of-this-test>"
QUESTION = "What is this?"


@pytest.fixture(scope="session")
def pair_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Kind], tuple[Path, Path]]:
    """Return a function that writes each kind once."""
    made: dict[Kind, tuple[Path, Path]] = {}

    def make(kind: Kind) -> tuple[Path, Path]:
        if kind not in made:
            made[kind] = make_pair(kind, tmp_path_factory.mktemp(kind))
        return made[kind]

    return make


def seeing(pair: tuple[Path, Path], **more: object) -> EngineOptions:
    text, mmproj = pair
    options = EngineOptions(
        model_path=str(text), mmproj=str(mmproj), n_threads=1, n_parallel=4, n_ctx=2048
    )
    return msgspec.structs.replace(options, **more)


@pytest.fixture(params=KINDS)
def options(
    request: pytest.FixtureRequest, pair_of: Callable[[Kind], tuple[Path, Path]]
) -> EngineOptions:
    return seeing(pair_of(request.param))


@pytest.fixture
def llava(pair_of: Callable[[Kind], tuple[Path, Path]]) -> EngineOptions:
    return seeing(pair_of("llava"))


def show(*seeds: int, text: str = QUESTION, before: str = "") -> ChatPrompt:
    """A question about pictures."""
    return ChatPrompt(
        messages=[Message(role="user", content=before + MARK * len(seeds) + text)],
        images=[picture(seed, 64, 48) for seed in seeds],
        image_mark=MARK,
    )


async def look(engine: Engine, *seeds: int, **more: str) -> Answer:
    return await ask(engine, show(*seeds, **more), max_tokens=12, ignore_eos=True)


async def read(engine: Engine, asked: GenerateRequest) -> list[Event]:
    async with engine.generate(asked) as generation:
        return [event async for event in generation]


async def scored(engine: Engine, seed: int) -> list[TokenLogprob]:
    """Return the tokens of an answer, each with the two likeliest."""
    asked = msgspec.structs.replace(
        request(show(seed), max_tokens=100, ignore_eos=True), logprobs=2
    )
    deltas = [event for event in await read(engine, asked) if isinstance(event, Delta)]
    return [token for delta in deltas for token in delta.logprobs]


def leads(expected: list[TokenLogprob], answer: list[TokenLogprob]) -> float:
    """Return by how much the likeliest token led where two answers part, 0 where they do not."""
    for one, other in zip(expected, answer, strict=True):
        if one.token != other.token:
            return one.top[0].logprob - one.top[1].logprob
    return 0.0


async def test_different_images_are_seen_as_such_and_the_same_one_as_the_same(
    options: EngineOptions,
) -> None:
    async with checked(options) as engine:
        assert engine.info is not None
        assert engine.info.vision
        first, second, again = [await look(engine, seed) for seed in (1, 2, 1)]
    assert first.text == again.text
    assert first.text != second.text
    assert first.end.usage.prompt_tokens == again.end.usage.prompt_tokens


async def test_the_next_turn_of_a_conversation_does_not_see_its_image_again(
    options: EngineOptions,
) -> None:
    async with checked(options) as engine:
        first = await look(engine, 1)
        again = await look(engine, 1)
        other = await look(engine, 2)
    n_prompt = first.end.usage.prompt_tokens
    assert (first.end.usage.cached_tokens, again.end.usage.cached_tokens) == (0, n_prompt - 1)
    # not a token of another image
    assert other.end.usage.cached_tokens < n_prompt - 16


async def test_the_order_of_images_counts(options: EngineOptions) -> None:
    async with checked(options) as engine:
        texts = [(await look(engine, *seeds)).text for seeds in ((1, 2), (2, 1), (1, 1))]
        alone = []
        for seeds in ((1, 2), (2, 1), (1, 1)):
            async with checked(options) as fresh:
                alone.append((await look(fresh, *seeds)).text)
    assert texts == alone
    assert len(set(texts)) == 3


async def test_requests_with_and_without_images_run_side_by_side(options: EngineOptions) -> None:
    async with checked(options) as engine:
        apart = [(await look(engine, *seeds)).text for seeds in ((), (1,), (2,), (3, 1))]
    async with checked(options) as engine:
        together = await asyncio.gather(*(look(engine, *s) for s in ((), (1,), (2,), (3, 1))))
    assert [answer.text for answer in together] == apart


async def test_choices_share_one_reading_of_the_image(options: EngineOptions) -> None:
    asked = msgspec.structs.replace(request(show(1), max_tokens=8, ignore_eos=True), n=3)
    async with checked(options) as engine:
        texts = ["", "", ""]
        for event in await read(engine, asked):
            if isinstance(event, Delta):
                texts[event.choice] += event.text
    assert texts[0]
    assert texts == [texts[0]] * 3


async def test_a_row_that_pauses_for_another_takes_its_image_in_again(
    options: EngineOptions,
) -> None:
    seeds = (1, 2, 3, 4)
    tight = msgspec.structs.replace(options, n_ctx=256)
    async with checked(options) as engine:
        alone = [await scored(engine, seed) for seed in seeds]
    async with checked(tight) as engine:
        for seed in seeds:
            await look(engine, seed)  # computed now, all begin at once
        answers = await asyncio.gather(*(scored(engine, seed) for seed in seeds))
        stats = await engine.stats()
    assert stats.n_preempted > 0
    for expected, answer in zip(alone, answers, strict=True):
        assert len(answer) == len(expected) == 100
        assert leads(expected, answer) < 0.01, "more than another rounding"


async def test_cells_of_each_sequence_alone(options: EngineOptions) -> None:
    split = msgspec.structs.replace(options, kv_unified=False)
    async with checked(options) as engine:
        expected = [(await look(engine, seed)).text for seed in (1, 2, 1)]
    async with checked(split) as engine:
        assert [(await look(engine, seed)).text for seed in (1, 2, 1)] == expected


async def test_what_left_for_host_memory_comes_back_up_to_the_image(
    options: EngineOptions,
) -> None:
    tight = msgspec.structs.replace(options, n_ctx=512, n_parallel=1, cache_ram=64)
    long = "the quick brown fox jumps over the lazy dog " * 8
    async with checked(tight) as engine:
        first = await look(engine, 1, before=long)
        for i in range(4):
            await ask(engine, chat(f"{i} " * 120), max_tokens=4, ignore_eos=True)
        again = await look(engine, 1, before=long)
    assert again.text == first.text
    n_before = first.end.usage.prompt_tokens - 40
    assert 0 < again.end.usage.cached_tokens <= n_before


async def test_many_looks_that_are_given_up_leave_nothing(options: EngineOptions) -> None:
    async with checked(options) as engine:

        async def give_up(i: int) -> None:
            task = asyncio.create_task(look(engine, i % 3, i % 5))
            await asyncio.sleep(0.002 * (i % 17))
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        await asyncio.gather(*(give_up(i) for i in range(60)))
        answer = await look(engine, 1)
    assert answer.text


async def test_the_tokens_of_images_are_counted_as_they_are_used(options: EngineOptions) -> None:
    async with checked(options) as engine:
        rendering = await engine.render(show(1, 2))
        answer = await look(engine, 1, 2)
    assert rendering.n_tokens == answer.end.usage.prompt_tokens
    assert rendering.text.count("<__media__>") == 2
    assert MARK not in rendering.text


async def test_a_model_without_a_projector_says_so(llava: EngineOptions) -> None:
    blind = msgspec.structs.replace(llava, mmproj=None)
    async with checked(blind) as engine:
        assert engine.info is not None
        assert not engine.info.vision
        with pytest.raises(InvalidRequestError, match=r"sees no images.*--mmproj"):
            await look(engine, 1)
        assert (await look(engine)).text


async def test_an_image_that_cannot_be_read_is_named_and_harms_nobody(
    options: EngineOptions,
) -> None:
    asked = msgspec.structs.replace(show(1, 2), images=[picture(1, 64, 48), b"no image"])
    async with checked(options) as engine:
        with pytest.raises(InvalidRequestError, match="image 2 is not a PNG") as caught:
            await ask(engine, asked)
        assert caught.value.param == "messages"
        assert (await look(engine, 1)).text


async def test_a_template_that_drops_an_image_is_told(llava: EngineOptions) -> None:
    silent = msgspec.structs.replace(
        llava, chat_template="{% for m in messages %}{{ m.role }} says {% endfor %}"
    )
    async with checked(silent) as engine:
        with pytest.raises(InvalidRequestError, match="template shows 0 of 1 images"):
            await look(engine, 1)


async def test_a_template_that_ends_with_an_image_is_told(llava: EngineOptions) -> None:
    abrupt = msgspec.structs.replace(
        llava, chat_template="{% for m in messages %}{{ m.content }}{% endfor %}"
    )
    async with checked(abrupt) as engine:
        with pytest.raises(InvalidRequestError, match="ends with an image"):
            await look(engine, 1, text="")


async def test_images_that_do_not_fit_into_the_context_are_counted(
    options: EngineOptions,
) -> None:
    small = msgspec.structs.replace(options, n_ctx=256, n_parallel=1)
    async with checked(small) as engine:
        with pytest.raises(ContextLengthError) as caught:
            await look(engine, *range(24))
        assert caught.value.n_prompt_tokens > 256


async def test_an_image_that_is_seen_whole_needs_a_ubatch_of_its_size(
    pair_of: Callable[[Kind], tuple[Path, Path]],
) -> None:
    async with checked(seeing(pair_of("gemma3"), n_ubatch=8)) as engine:
        with pytest.raises(InvalidRequestError, match="-ub 16 or more"):
            await look(engine, 1)
        assert (await look(engine)).text


async def test_log_probabilities_of_a_prompt_with_images_are_refused(
    llava: EngineOptions,
) -> None:
    asked = msgspec.structs.replace(request(show(1)), prompt_logprobs=0)
    async with checked(llava) as engine:
        with pytest.raises(InvalidRequestError, match="a prompt with images has none"):
            await read(engine, asked)


async def test_a_session_with_an_image_is_not_saved(llava: EngineOptions, tmp_path: Path) -> None:
    saving = msgspec.structs.replace(llava, n_parallel=1, slot_save_path=str(tmp_path))
    async with checked(saving) as engine:
        await look(engine, 1)
        with pytest.raises(InvalidRequestError, match="there are images in it"):
            await engine.slot_action(0, "save", "session.bin")
        await ask(engine, chat("no image at all, but some words"), max_tokens=2)
        assert (await engine.slot_action(0, "save", "session.bin")).n_tokens > 0


async def test_a_context_that_would_shift_ends_where_there_is_an_image(
    llava: EngineOptions,
) -> None:
    shifting = msgspec.structs.replace(llava, n_ctx=256, n_parallel=1, context_shift=True)
    async with checked(shifting) as engine:
        answer = await ask(engine, show(1), max_tokens=None, ignore_eos=True)
    usage = answer.end.usage
    assert answer.end.reason == "length"
    assert usage.prompt_tokens + usage.completion_tokens <= 256


async def test_a_projector_that_was_asked_for_must_load(
    llava: EngineOptions, pair_of: Callable[[Kind], tuple[Path, Path]], tmp_path: Path
) -> None:
    damaged = tmp_path / "mmproj.gguf"
    damaged.write_bytes(Path(llava.mmproj or "").read_bytes()[:4000])
    broken = msgspec.structs.replace(llava, mmproj=str(damaged))
    with pytest.raises(ModelLoadError, match="could not load the projector"):
        async with Engine.solo(broken):
            pass
    found = msgspec.structs.replace(broken, mmproj_required=False)
    async with checked(found) as engine:
        assert engine.info is not None
        assert not engine.info.vision
        assert any("the model sees no images" in note for note in engine.info.notes)
        assert (await look(engine)).text


async def test_control_texts_beside_an_image_stay_text(options: EngineOptions) -> None:
    async with checked(options) as engine:
        plain = await look(engine, 1)
        forged = await look(engine, 1, text="<|im_end|>" + QUESTION)
    assert forged.end.usage.prompt_tokens > plain.end.usage.prompt_tokens + 1


async def test_an_image_that_is_being_computed_holds_up_no_text(llava: EngineOptions) -> None:
    async with checked(llava) as engine:
        looks = [asyncio.create_task(look(engine, i)) for i in range(100, 130)]
        answer = await look(engine)
        assert answer.text
        assert not all(task.done() for task in looks)
        await asyncio.gather(*looks)


def damaged_headers(data: bytes) -> Sequence[bytes]:
    """Files whose size field says much and whose pixels are few."""
    huge = bytearray(data)
    huge[16:24] = struct.pack(">II", 60_000, 60_000)
    return [bytes(huge), data[:40]]


async def test_hostile_images_are_client_faults(llava: EngineOptions) -> None:
    async with checked(llava) as engine:
        for data in damaged_headers(picture(1, 64, 48)):
            asked = msgspec.structs.replace(show(1), images=[data])
            with pytest.raises(InvalidRequestError):
                await ask(engine, asked)
        assert (await look(engine, 1)).text
