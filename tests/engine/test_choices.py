"""Several choices of one request: one evaluation of the prompt, a seed and a count for each."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import msgspec
import pytest

from shimmy.engine import Engine
from shimmy.engine.types.event import Accepted, Delta, Finished
from shimmy.engine.types.options import EngineOptions
from shimmy.engine.types.prompt import TextPrompt, TokenPrompt
from shimmy.engine.types.request import GenerateRequest
from shimmy.engine.types.sampling import SamplingParams
from shimmy.errors import InvalidRequestError, OverloadedError
from tests.engine.integrity import loop_of

LONG = TokenPrompt([5 + i % 200 for i in range(120)])


@dataclass
class Choices:
    texts: dict[int, str] = field(default_factory=dict)
    ends: list[Finished] = field(default_factory=list)
    n_accepted: int = 0


def request(prompt: TextPrompt | TokenPrompt = LONG, **fields: object) -> GenerateRequest:
    sampling = SamplingParams(temperature=1.0, ignore_eos=True, seed=fields.pop("seed", 5))  # type: ignore[arg-type]
    return GenerateRequest(prompt=prompt, sampling=sampling, **({"max_tokens": 8} | fields))  # type: ignore[arg-type]


async def collect(engine: Engine, asked: GenerateRequest) -> Choices:
    got = Choices()
    async with engine.generate(asked) as generation:
        async for event in generation:
            match event:
                case Accepted():
                    got.n_accepted += 1
                case Delta():
                    got.texts[event.choice] = got.texts.get(event.choice, "") + event.text
                case Finished():
                    got.ends.append(event)
    return got


async def test_each_choice_has_its_text_its_end_and_its_count(solo: Engine) -> None:
    got = await collect(solo, request(n=3))
    assert got.n_accepted == 1
    assert sorted(end.choice for end in got.ends) == [0, 1, 2]
    assert [end.last for end in got.ends] == [False, False, True]
    assert all(end.usage.completion_tokens == 8 for end in got.ends)
    assert all(end.usage.prompt_tokens == 120 for end in got.ends)


async def test_the_prompt_is_computed_once(solo: Engine) -> None:
    got = await collect(solo, request(n=4))
    assert len(got.ends) == 4
    # the others' cells are the first's, apart from their answers
    assert loop_of(solo)._scheduler._index.n_cells < 120 + 4 * 9


async def test_cached_tokens_are_what_the_prompt_found(solo: Engine) -> None:
    first, second = [await collect(solo, request(n=4)) for _ in range(2)]
    assert {end.usage.cached_tokens for end in first.ends} == {0}
    assert {end.usage.cached_tokens for end in second.ends} == {119}


async def test_choices_are_what_single_requests_with_the_next_seeds_get(solo: Engine) -> None:
    got = await collect(solo, request(n=3, seed=11))
    single = [(await collect(solo, request(seed=11 + i))).texts[0] for i in range(3)]
    # rows of one batch may round to another token on this model's flat logits
    assert sum(got.texts[i] == single[i] for i in range(3)) >= 2
    assert len(set(got.texts.values())) == 3


async def test_without_a_seed_the_choices_differ(solo: Engine) -> None:
    got = await collect(solo, request(n=4, seed=None, max_tokens=16))
    assert len(set(got.texts.values())) == 4


async def test_more_choices_than_slots_are_refused_by_name(solo: Engine) -> None:
    with pytest.raises(InvalidRequestError, match="4 slots") as caught:
        await collect(solo, request(n=5))
    assert caught.value.param == "n"


@pytest.mark.parametrize("n", [0, -1, 1000])
async def test_a_number_of_choices_that_cannot_be_is_refused(solo: Engine, n: int) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        await collect(solo, request(n=n))
    assert caught.value.param == "n"


async def test_max_tokens_of_0_ends_every_choice(solo: Engine) -> None:
    got = await collect(solo, request(n=3, max_tokens=0))
    assert [end.last for end in got.ends] == [False, False, True]
    assert all(end.usage.completion_tokens == 0 for end in got.ends)


async def test_choices_that_end_at_different_times_each_say_so(solo: Engine) -> None:
    asked = GenerateRequest(
        prompt=TextPrompt("x"),
        sampling=SamplingParams(temperature=1.0, seed=1, grammar='root ::= "a" | "bb" | "ccc"'),
        n=4,
    )
    got = await collect(solo, asked)
    assert all(text in ("a", "bb", "ccc") for text in got.texts.values())
    assert [end.reason for end in got.ends] == ["stop"] * 4


async def test_leaving_ends_all_choices(solo: Engine) -> None:
    async with solo.generate(request(n=4, max_tokens=None)) as generation:
        async for event in generation:
            if isinstance(event, Delta):
                break
    # all four slots are free again
    got = await asyncio.wait_for(collect(solo, request(n=4)), 20)
    assert len(got.ends) == 4


async def test_every_choice_counts_in_the_queue(options: EngineOptions) -> None:
    small = msgspec.structs.replace(options, n_parallel=2, max_queue=1)
    endless = request(n=2, max_tokens=None)
    async with Engine.solo(small) as engine, engine.generate(endless) as generation:
        async for event in generation:
            if isinstance(event, Delta):
                break
        with pytest.raises(OverloadedError):
            await collect(engine, request(n=2))
        assert (await asyncio.wait_for(_first(engine, request(n=1)), 20)) is not None


async def _first(engine: Engine, asked: GenerateRequest) -> object:
    async with engine.generate(asked) as generation:
        async for event in generation:
            return event
    return None


async def test_a_prompt_is_computed_anew_where_the_cache_is_not_wanted(solo: Engine) -> None:
    await collect(solo, request())
    fresh = await collect(solo, request(cache_prompt=False))
    cached = await collect(solo, request())
    assert fresh.ends[0].usage.cached_tokens == 0
    assert cached.ends[0].usage.cached_tokens == 119
    assert fresh.texts == cached.texts
