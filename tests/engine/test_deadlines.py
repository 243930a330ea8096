"""A request's timeout, in the queue and while it runs."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import pytest

from shimmy.engine import Engine
from shimmy.engine.types.event import Finished
from shimmy.engine.types.options import EngineOptions
from shimmy.engine.types.prompt import TokenPrompt
from shimmy.engine.types.request import GenerateRequest
from shimmy.engine.types.sampling import SamplingParams
from shimmy.errors import DeadlineError
from shimmy.worker.prepare import Preparer
from shimmy.worker.task import Task
from tests.engine.ask import ask
from tests.engine.integrity import checked, faults, loop_of

FOREVER = 10**9


def endless(timeout: float | None, **fields: object) -> GenerateRequest:
    return GenerateRequest(
        prompt=TokenPrompt([9, 10, 11]),
        sampling=SamplingParams(temperature=0.0, ignore_eos=True),
        timeout=timeout,
        **fields,  # type: ignore[arg-type]
    )


async def finish(engine: Engine, request: GenerateRequest) -> Finished:
    async with engine.generate(request) as generation:
        async for event in generation:
            if isinstance(event, Finished):
                return event
    raise AssertionError


@pytest.fixture
def one_slot(options: EngineOptions) -> EngineOptions:
    """A slot whose requests never end by themselves."""
    return msgspec.structs.replace(options, n_parallel=1, context_shift=True)


async def test_a_running_request_ends_with_length_at_its_deadline(one_slot: EngineOptions) -> None:
    async with checked(one_slot) as engine:
        began = time.monotonic()
        end = await finish(engine, endless(0.3))
        took = time.monotonic() - began
    assert end.reason == "length"
    assert end.usage.completion_tokens > 1
    assert 0.3 <= took < 5


async def test_a_waiting_request_fails_at_its_deadline_and_the_running_one_goes_on(
    one_slot: EngineOptions,
) -> None:
    async with checked(one_slot) as engine:
        generating = asyncio.Event()
        running = asyncio.create_task(
            ask(
                engine, TokenPrompt([7]), max_tokens=FOREVER, ignore_eos=True, generating=generating
            )
        )
        await generating.wait()
        began = time.monotonic()
        with pytest.raises(DeadlineError, match="timeout"):
            await finish(engine, endless(0.2))
        assert 0.2 <= time.monotonic() - began < 5
        assert not running.done()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        end = await finish(engine, endless(None, max_tokens=3))
        assert end.usage.completion_tokens == 3


async def test_the_time_that_the_model_takes_to_load_counts(one_slot: EngineOptions) -> None:
    engine = Engine.solo(one_slot)
    with pytest.raises(DeadlineError, match="loaded"):
        # not started: the model never comes
        await finish(engine, endless(0.05))
    async with engine:
        assert (await finish(engine, endless(0.2))).reason == "length"
        assert await faults(engine) == []


async def test_the_time_that_a_request_is_prepared_counts(
    one_slot: EngineOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = Preparer.prepare

    def slowly(*args: Any) -> list[Task]:
        time.sleep(0.3)
        return prepare(*args)

    monkeypatch.setattr(Preparer, "prepare", slowly)
    async with checked(one_slot) as engine:
        with pytest.raises(DeadlineError):
            await finish(engine, endless(0.2))


async def test_deadlines_of_requests_that_ended_do_not_pile_up(one_slot: EngineOptions) -> None:
    async with checked(one_slot) as engine:
        for _ in range(150):
            await finish(engine, endless(3600.0, max_tokens=1))
        assert len(loop_of(engine)._tasks._deadlines) < 100
