"""Deltas that a reader takes where they arrive, without being woken."""

from __future__ import annotations

import asyncio

import pytest

from shimmy.engine.generation import Generation
from shimmy.engine.types.event import Accepted, Delta, Event, Finished, Timings, Usage

END = Finished(
    reason="stop",
    usage=Usage(prompt_tokens=1, completion_tokens=1),
    timings=Timings(queue_ms=0, prompt_ms=0, predicted_ms=0),
)


async def reading(generation: Generation, read: list[Event]) -> asyncio.Task[None]:
    """Return a reader that waits."""

    async def run() -> None:
        async for event in generation:
            read.append(event)  # noqa: PERF401  seen as they come

    task = asyncio.create_task(run())
    await asyncio.sleep(0)
    return task


async def test_a_delta_is_taken_while_the_reader_waits_and_wakes_nobody() -> None:
    taken: list[Event] = []
    read: list[Event] = []
    generation = Generation(lambda: None)
    generation.tap(lambda event: taken.append(event) or True)  # type: ignore[func-returns-value]
    task = await reading(generation, read)
    for text in ("a", "b"):
        generation.put(Delta(text=text))
    await asyncio.sleep(0)
    assert [event.text for event in taken if isinstance(event, Delta)] == ["a", "b"]
    assert read == []
    generation.put(END)
    await task
    assert read == [END]


async def test_what_comes_before_the_reader_waits_is_queued_and_the_order_kept() -> None:
    taken: list[Event] = []
    read: list[Event] = []
    generation = Generation(lambda: None)
    generation.tap(lambda event: taken.append(event) or True)  # type: ignore[func-returns-value]
    generation.put(Accepted(prompt_tokens=3))
    generation.put(Delta(text="a"))
    task = await reading(generation, read)
    # the reader has been woken, and has not run yet
    generation.put(Delta(text="b"))
    generation.put(END)
    await task
    texts = [event.text for event in [*read, *taken] if isinstance(event, Delta)]
    assert texts == ["a", "b"]


@pytest.mark.parametrize("raises", [True, False])
async def test_what_is_not_taken_is_the_readers(raises: bool) -> None:
    def take(_: Delta) -> bool:
        if raises:
            raise ValueError("an encoder's fault")
        return False

    read: list[Event] = []
    generation = Generation(lambda: None)
    generation.tap(take)
    task = await reading(generation, read)
    generation.put(Delta(text="a"))
    generation.put(Delta(text="b"))
    generation.put(END)
    await task
    assert "".join(event.text for event in read if isinstance(event, Delta)) == "ab"
    assert read[-1] == END


async def test_nothing_is_taken_after_the_end() -> None:
    taken: list[Event] = []
    generation = Generation(lambda: None)
    generation.tap(lambda event: taken.append(event) or True)  # type: ignore[func-returns-value]
    task = await reading(generation, [])
    generation.close()
    generation.put(Delta(text="late"))
    assert taken == []
    task.cancel()
