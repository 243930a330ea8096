"""Which images are computed, and which are not: that is what takes long."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from functools import partial

import msgspec
import pytest

from shimmy.engine.types.options import EngineOptions
from shimmy.errors import ContextLengthError, DeadlineError, OverloadedError
from shimmy.llama.projector import Picture, Projector
from shimmy.worker import worker
from shimmy.worker.pictures import Pictures, Seen
from tests.engine.ask import chat, request
from tests.engine.integrity import checked
from tests.engine.test_seeing import look, seeing, show
from tests.support.vision import make_pair


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> EngineOptions:
    return seeing(make_pair("llava", tmp_path_factory.mktemp("llava")))


class Work:
    """The pictures that were computed in this process; they wait while `may_go` is not set."""

    def __init__(self, encode: Callable[[Projector, Picture], int]) -> None:
        self.done: list[Picture] = []
        self.began = threading.Event()
        self.may_go = threading.Event()
        self.may_go.set()
        self._encode = encode

    def encode(self, projector: Projector, picture: Picture) -> int:
        self.began.set()
        assert self.may_go.wait(20)
        self.done.append(picture)
        return self._encode(projector, picture)


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    work = Work(Projector.encode)
    monkeypatch.setattr(Projector, "encode", lambda *args: work.encode(*args))  # noqa: PLW0108 - a function is bound to its object
    return work


async def test_an_image_is_computed_once_however_often_it_comes(
    options: EngineOptions, work: Work
) -> None:
    async with checked(options) as engine:
        await look(engine, 1, 2, 1)
        await look(engine, 2)
    assert len(work.done) == 2


async def test_images_are_computed_only_for_a_prompt_that_fits(
    options: EngineOptions, work: Work
) -> None:
    small = msgspec.structs.replace(options, n_ctx=256, n_parallel=1)
    async with checked(small) as engine:
        with pytest.raises(ContextLengthError) as caught:
            await look(engine, *range(24))
        counted = await engine.render(show(*range(24)))
    assert caught.value.n_prompt_tokens == counted.n_tokens > 24 * 16
    assert work.done == []


async def test_what_is_only_counted_is_not_computed(options: EngineOptions, work: Work) -> None:
    async with checked(options) as engine:
        n_tokens = (await engine.render(show(1, 2))).n_tokens
        assert work.done == []
        assert (await look(engine, 1, 2)).end.usage.prompt_tokens == n_tokens


async def test_who_counts_waits_for_nobodys_images(options: EngineOptions, work: Work) -> None:
    work.may_go.clear()
    async with checked(options) as engine:
        task = asyncio.create_task(look(engine, 1))
        await asyncio.to_thread(work.began.wait, 20)
        assert (await engine.render(show(2, 3))).n_tokens > 32
        assert (await engine.render(show(1))).n_tokens > 16
        assert (await look(engine)).text
        work.may_go.set()
        assert (await task).text


async def test_images_that_nobody_waits_for_any_more_are_not_computed(
    options: EngineOptions, work: Work
) -> None:
    work.may_go.clear()
    async with checked(options) as engine:
        looks = [asyncio.create_task(look(engine, i, i + 1, i + 2)) for i in (10, 20, 30)]
        await asyncio.to_thread(work.began.wait, 20)
        for task in looks:
            task.cancel()
        await asyncio.gather(*looks, return_exceptions=True)
        await engine.render(chat("a command after those"))
        work.may_go.set()
        assert (await look(engine, 40)).text
    assert len(work.done) == 2, "the one that had begun, and the last"


async def test_images_that_nobody_waits_for_any_more_are_not_even_read(
    options: EngineOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, began, may_go = [], threading.Event(), threading.Event()

    def see(self: Pictures, data: bytes, name: str) -> Seen:
        began.set()
        assert may_go.wait(20)
        names.append(name)
        return seen(self, data, name)

    seen = Pictures.see
    monkeypatch.setattr(Pictures, "see", see)
    async with checked(options) as engine:
        for show_all in (lambda: look(engine, 1, 2, 3), lambda: engine.render(show(4, 5, 6))):
            began.clear()
            may_go.clear()
            task = asyncio.create_task(show_all())
            await asyncio.to_thread(began.wait, 20)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await engine.render(chat("a command after that"))
            may_go.set()
        assert (await look(engine)).text
    assert names == ["messages: image 1"] * 2


async def test_a_timeout_ends_the_wait_for_images_at_once(
    options: EngineOptions, work: Work
) -> None:
    async def timed(*seeds: int) -> None:
        asked = msgspec.structs.replace(request(show(*seeds)), timeout=0.2)
        async with engine.generate(asked) as generation:
            async for _ in generation:
                pass

    work.may_go.clear()
    async with checked(options) as engine:
        began = time.monotonic()
        first = asyncio.create_task(timed(1, 2))
        await asyncio.to_thread(work.began.wait, 20)
        later = [asyncio.create_task(timed(i)) for i in (3, 4)]
        outcomes = await asyncio.gather(first, *later, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [DeadlineError] * 3
        assert 0.2 <= time.monotonic() - began < 5
        work.may_go.set()
        assert (await look(engine, 5)).text
    assert len(work.done) == 2, "the one that had begun, and the last"


async def test_requests_that_wait_for_images_count_as_waiting(
    options: EngineOptions, work: Work
) -> None:
    work.may_go.clear()
    short = msgspec.structs.replace(options, n_parallel=1, max_queue=1)
    async with checked(short) as engine:
        looks = [asyncio.create_task(look(engine, i)) for i in range(2)]
        await asyncio.to_thread(work.began.wait, 20)
        with pytest.raises(OverloadedError, match="2 requests run or wait"):
            await look(engine, 3)
        work.may_go.set()
        assert all(answer.text for answer in await asyncio.gather(*looks))
        assert (await look(engine, 3)).text


async def test_cells_of_an_image_are_shared_when_it_had_to_be_computed_again(
    options: EngineOptions, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "Pictures", partial(Pictures, max_bytes=1))
    async with checked(options) as engine:
        first = await look(engine, 1)
        await look(engine, 2)
        again = await look(engine, 1)
    assert len(work.done) == 3
    assert again.text == first.text
    assert again.end.usage.cached_tokens == first.end.usage.prompt_tokens - 1
