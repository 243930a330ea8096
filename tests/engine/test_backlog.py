"""What waits for a slow reader is bounded, and complete until it is given up."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from shimmy.engine import backlog
from shimmy.engine.backlog import LIMIT, MERGE_FROM, MERGE_TOKENS, Backlog
from shimmy.engine.types.event import Delta, TokenLogprob, ToolCallDelta
from shimmy.engine.types.options import EngineOptions
from shimmy.engine.types.prompt import TokenPrompt, ToolCall
from shimmy.engine.types.request import GenerateRequest
from shimmy.engine.types.sampling import SamplingParams
from shimmy.errors import SlowReaderError
from tests.engine.integrity import checked, faults


def drain(waiting: Backlog) -> list[Delta]:
    return [event for event in iter_all(waiting) if isinstance(event, Delta)]


def iter_all(waiting: Backlog):
    while len(waiting):
        yield waiting.take()


def test_a_reader_in_time_gets_each_event_as_it_came() -> None:
    waiting = Backlog()
    for i in range(MERGE_FROM):
        waiting.add(Delta(text=str(i)))
    assert [delta.text for delta in drain(waiting)] == [str(i) for i in range(MERGE_FROM)]


def test_a_slow_reader_gets_everything_in_fewer_events() -> None:
    waiting = Backlog()
    texts = [f"{i} " for i in range(100_000)]
    for text in texts:
        waiting.add(Delta(text=text))
    assert not waiting.full
    assert len(waiting) < MERGE_FROM + len(texts) / MERGE_TOKENS + 1
    deltas = drain(waiting)
    assert "".join(delta.text for delta in deltas) == "".join(texts)
    assert sum(delta.n_tokens for delta in deltas) == len(texts)


def test_only_plain_text_of_one_choice_is_put_together() -> None:
    waiting = Backlog()
    for i in range(MERGE_FROM):
        waiting.add(Delta(text="x", choice=i % 2))
    n = len(waiting)
    call = ToolCallDelta(index=0, call=ToolCall(id="1", name="f", arguments="{}"))
    kinds = [
        Delta(text="a"),
        Delta(text="b", choice=1),
        Delta(reasoning="c", choice=1),
        Delta(text="d", choice=1),
        Delta(tool_calls=[call], choice=1),
        Delta(text="e", choice=1, logprobs=[TokenLogprob(1, b"e", -0.5)]),
        Delta(text="f", choice=1),
    ]
    for delta in kinds:
        waiting.add(delta)
    assert len(waiting) == n + len(kinds)


def test_the_backlog_is_full_at_its_limit() -> None:
    waiting = Backlog()
    for i in range(LIMIT):
        assert not waiting.full
        waiting.add(Delta(text="x", choice=i % 2))
    assert waiting.full


async def test_a_reader_that_never_reads_loses_its_request_and_is_told(
    options: EngineOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "LIMIT", 30)
    monkeypatch.setattr(backlog, "MERGE_FROM", 10)
    monkeypatch.setattr(backlog, "MERGE_TOKENS", 4)
    endless = GenerateRequest(
        prompt=TokenPrompt([9, 10, 11]),
        sampling=SamplingParams(temperature=0.0, ignore_eos=True),
    )
    async with checked(msgspec.structs.replace(options, context_shift=True)) as engine:
        async with engine.generate(endless) as generation, asyncio.timeout(20):
            while engine.n_active:
                await asyncio.sleep(0.01)
            for _ in range(30):
                await anext(generation)
            with pytest.raises(SlowReaderError, match="read faster"):
                await anext(generation)
        async with asyncio.timeout(10):
            while await faults(engine):
                await asyncio.sleep(0.01)
