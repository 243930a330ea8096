"""The loop with a fake runner: commands, delivery, preemption and failure, in milliseconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from shimmy.engine.types.event import Delta, Event, Failed, Finished, PromptScored
from shimmy.engine.types.frame import Report, Step
from shimmy.errors import InvalidRequestError, LlamaError
from shimmy.llama.stepper import Finish, RowEvent, StepCode
from shimmy.worker.job import Job
from shimmy.worker.loop import Loop
from shimmy.worker.prefix import Placement, PrefixIndex
from shimmy.worker.scheduler import Scheduler
from shimmy.worker.task import Choices, Task


@dataclass
class FakeSampler:
    closed: bool = False

    def close(self) -> None:
        self.closed = True


@dataclass
class FakeRow:
    task: Task
    n_tokens: int
    n_past: int = 0
    n_generated: int = 0
    held: str = ""


@dataclass
class FakeRunner:
    """Rows that say "a", "b", ... and end after `n_words`; cells are counted as llama.cpp does."""

    n_words: int = 3
    n_cells: int = 10_000
    rows: dict[int, FakeRow] = field(default_factory=dict)
    cells: dict[int, int] = field(default_factory=dict)
    refuse: Exception | None = None
    fault: Exception | None = None
    n_full: int = 0
    before_step: Callable[[], None] = lambda: None
    runs_ahead: bool = False
    flying: list[tuple[int, int]] | None = None
    n_ahead: int = 0
    n_held: int = 0
    pause: float = 0.0

    @property
    def in_flight(self) -> bool:
        return self.flying is not None

    def open(self, slot: int, task: Task, placement: Placement) -> None:
        assert not self.in_flight
        if self.refuse is not None:
            raise self.refuse
        assert slot not in self.rows
        seq_id, n = placement.seq_id, placement.n_shared
        if placement.source is None:
            assert self.cells.get(seq_id, 0) == n
        else:
            assert self.cells[placement.source] >= n
            assert self.cells.get(seq_id, 0) == 0
        self.cells[seq_id] = n
        self.rows[slot] = FakeRow(task, len(task.job.tokens), n)

    def close(self, slot: int) -> None:
        assert not self.in_flight
        del self.rows[slot]

    def remove(self, seq_id: int) -> None:
        assert not self.in_flight
        assert all(row.task.job.seq_id != seq_id for row in self.rows.values())
        self.cells.pop(seq_id, None)

    def flush(self, slot: int) -> str:
        return self.rows[slot].held

    def rewind(self, slot: int) -> None:
        self.rows[slot].n_past = 0
        self.cells[self.rows[slot].task.job.seq_id] = 0

    def hold(self) -> None:
        self.n_held += 1

    def take(self, *, ahead: bool) -> tuple[StepCode, list[RowEvent]]:
        assert self.flying is not None
        bites, self.flying = self.flying, None
        return self.step(bites, ahead=ahead)

    def step(self, bites: list[tuple[int, int]], *, ahead: bool) -> tuple[StepCode, list[RowEvent]]:
        assert not self.in_flight
        code, events = self._decode(bites)
        goes_on = len(events) == len(bites) and all(e.finish is Finish.NONE for e in events)
        if ahead and self.runs_ahead and goes_on:
            self.n_ahead += 1
            self.flying = [(slot, 1) for slot, _ in bites]
        return code, events

    def _decode(self, bites: list[tuple[int, int]]) -> tuple[StepCode, list[RowEvent]]:
        self.before_step()
        time.sleep(self.pause)
        if self.fault is not None:
            raise self.fault
        used = sum(self.cells.values())
        if used + sum(n for _, n in bites) > self.n_cells:
            self.n_full += 1
            return StepCode.KV_FULL, []
        events = []
        for slot, n_tokens in bites:
            row = self.rows[slot]
            row.n_past += n_tokens
            self.cells[row.task.job.seq_id] += n_tokens
            if row.n_past == row.n_tokens:
                events.append(self._sample(slot, row))
        return StepCode.OK, events

    def _sample(self, slot: int, row: FakeRow) -> RowEvent:
        text = chr(ord("a") + row.n_generated)
        row.n_generated += 1
        row.n_tokens += 1
        finish = Finish.LIMIT if row.n_generated == self.n_words else Finish.NONE
        return RowEvent(slot, 1, row.n_generated, finish, None, text)


class Harness:
    def __init__(self, runner: FakeRunner, **sizes: int) -> None:
        self.runner = runner
        self.events: dict[int, list[Event]] = {}
        limits = {"n_slots": 4, "n_cells": runner.n_cells, "n_batch": 64, "n_bite": 16} | sizes
        self.index = PrefixIndex(256)
        self.scheduler = Scheduler(self.index, **limits)
        self.loop = Loop(self.scheduler, runner, self.emit)
        self.condition: Callable[[], bool] = lambda: False

    def emit(self, report: Report) -> None:
        assert isinstance(report, Step)
        for request_id, event in report.events:
            self.events.setdefault(request_id, []).append(event)
        if self.condition():
            self.loop.stop()

    def add(self, request_id: int, n_tokens: int = 4) -> Task:
        task = self.task(request_id, n_tokens)
        self.loop.add(task)
        return task

    def task(self, request_id: int, n_tokens: int = 4) -> Task:
        return Task(
            job=Job(request_id, [1000 + request_id] * n_tokens),
            choices=Choices(request_id),
            n_prompt=n_tokens,
            sampler=FakeSampler(),  # type: ignore[arg-type]
            stops=[],
            max_tokens=None,
        )

    def run_until(self, condition: Callable[[], bool]) -> None:
        """Run the loop on this thread; it is stopped by the runner once `condition` holds."""
        n_steps = 0

        def check() -> None:
            nonlocal n_steps
            n_steps += 1
            if condition() or n_steps > 1000:
                self.loop.stop()

        self.condition = condition
        self.runner.before_step = check
        self.loop.run()
        assert n_steps <= 1000
        assert self.index.faults() == []
        assert self.loop.n_open == len(self.scheduler._running) + self.scheduler.n_waiting

    def text(self, request_id: int) -> str:
        return "".join(e.text for e in self.events[request_id] if isinstance(e, Delta))


def done(harness: Harness, *ids: int) -> Callable[[], bool]:
    return lambda: all(isinstance(harness.events.get(i, [None])[-1], Finished) for i in ids)


def test_a_step_begins_while_its_task_is_announced_but_says_nothing_before() -> None:
    harness = Harness(FakeRunner())
    begun = threading.Event()
    order: list[str] = []

    def tell() -> None:
        assert begun.wait(10)  # the engine does not wait for whoever is told
        time.sleep(0.05)
        order.append("accepted")

    def emit(report: Report) -> None:
        order.append("step")
        Harness.emit(harness, report)

    harness.loop._emit = emit
    task = harness.task(1)
    teller = threading.Thread(target=harness.loop.announce, args=([task], tell))
    teller.start()
    check = harness.condition

    def condition() -> bool:
        begun.set()
        return check()

    check = done(harness, 1)
    harness.run_until(condition)
    teller.join()
    assert order[0] == "accepted"
    assert harness.text(1) == "abc"


def test_requests_run_together_and_each_gets_its_own_text_and_counts() -> None:
    harness = Harness(FakeRunner())
    for i in (1, 2, 3):
        harness.add(i, n_tokens=3 + i)
    harness.run_until(done(harness, 1, 2, 3))
    for i in (1, 2, 3):
        assert harness.text(i) == "abc"
        last = harness.events[i][-1]
        assert isinstance(last, Finished)
        assert last.reason == "length"
        assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (3 + i, 3)


def test_a_cancelled_request_says_nothing_more_and_frees_its_row_before_the_next_step() -> None:
    harness = Harness(FakeRunner(n_words=50))
    task = harness.add(1)
    seen: list[int] = []

    def check() -> bool:
        if len(harness.events.get(1, [])) == 2 and not seen:
            harness.loop.cancel(1)
            harness.add(2)
            seen.append(1)
        return bool(seen) and 0 in harness.runner.rows and harness.runner.rows[0].task is not task

    harness.run_until(check)
    assert len(harness.events[1]) <= 3
    assert not any(isinstance(event, Finished) for event in harness.events[1])
    assert task.sampler.closed


def test_cancelling_an_unknown_request_does_nothing() -> None:
    harness = Harness(FakeRunner())
    harness.loop.cancel(77)
    harness.add(1)
    harness.add(2)
    harness.run_until(done(harness, 1))
    assert harness.text(1) == "abc"


def test_a_row_that_cannot_be_opened_fails_alone() -> None:
    runner = FakeRunner(refuse=InvalidRequestError("no such token", param="prompt"))
    harness = Harness(runner)
    harness.add(1)
    opened = runner.open

    def open_second(slot: int, task: Task, placement: Placement) -> None:
        runner.refuse = None if task.job.id == 2 else runner.refuse
        opened(slot, task, placement)

    runner.open = open_second  # type: ignore[method-assign]
    harness.add(2)
    harness.add(3)
    harness.run_until(done(harness, 2))
    failed = harness.events[1][-1]
    assert isinstance(failed, Failed)
    assert failed.code == "invalid_request"
    assert harness.text(2) == "abc"


def test_when_the_cells_run_out_the_youngest_pauses_and_every_text_is_still_whole() -> None:
    runner = FakeRunner(n_words=20, n_cells=200)
    # a scheduler that believes in more cells than there are, so that decode says "full"
    harness = Harness(runner, n_cells=10_000)
    for i in (1, 2, 3):
        harness.add(i, n_tokens=55)
    harness.add(4, n_tokens=1)
    harness.run_until(done(harness, 1, 2, 3))
    assert runner.n_full > 0
    for i in (1, 2, 3):
        assert harness.text(i) == "".join(chr(ord("a") + k) for k in range(20))


def test_one_row_that_outgrows_the_cells_alone_ends_with_length() -> None:
    runner = FakeRunner(n_words=100, n_cells=10)
    harness = Harness(runner, n_cells=10_000)
    harness.add(1, n_tokens=4)
    harness.run_until(done(harness, 1))
    last = harness.events[1][-1]
    assert isinstance(last, Finished)
    assert last.reason == "length"
    assert last.usage.completion_tokens == 7


def test_a_fault_of_the_context_fails_every_request_and_is_raised() -> None:
    runner = FakeRunner(fault=LlamaError("llama_decode returned -3"))
    harness = Harness(runner)
    tasks = [harness.add(i) for i in range(6)]
    with pytest.raises(LlamaError):
        harness.loop.run()
    for i in range(6):
        assert isinstance(harness.events[i][-1], Failed)
    assert all(task.sampler.closed for task in tasks)


def test_stopping_fails_what_is_in_flight_with_engine_closed() -> None:
    harness = Harness(FakeRunner(n_words=1000))
    harness.add(1)
    harness.run_until(lambda: len(harness.events.get(1, [])) > 2)
    last = harness.events[1][-1]
    assert isinstance(last, Failed)
    assert last.code == "engine_closed"


def test_a_row_error_reaches_its_reader_only() -> None:
    runner = FakeRunner(n_words=5)
    harness = Harness(runner)
    sample = runner._sample

    def broken(slot: int, row: FakeRow) -> RowEvent:
        if row.task.job.id == 1 and row.n_generated == 2:
            return RowEvent(slot, None, 2, Finish.ERROR, None, "the grammar cannot go on")
        return sample(slot, row)

    runner._sample = broken  # type: ignore[method-assign]
    for i in (1, 2, 3):
        harness.add(i)
    harness.run_until(done(harness, 2))
    failed = harness.events[1][-1]
    assert isinstance(failed, Failed)
    assert failed.message == "the grammar cannot go on"
    assert harness.text(2) == "abcde"


def test_a_request_that_waits_past_its_deadline_fails_and_others_go_on() -> None:
    harness = Harness(FakeRunner(n_words=20), n_slots=1)
    harness.add(1)
    late = harness.add(2)
    late.deadline = 0.0
    harness.add(3)
    harness.run_until(done(harness, 3))
    failed = harness.events[2][-1]
    assert isinstance(failed, Failed)
    assert failed.code == "deadline_exceeded"
    assert late.sampler.closed
    assert len(harness.text(1)) == len(harness.text(3)) == 20


def test_a_call_runs_on_the_loops_thread_between_steps() -> None:
    harness = Harness(FakeRunner(n_words=5))
    seen: list[int] = []
    harness.add(1)
    harness.loop.call(lambda: seen.append(threading.get_ident()))
    harness.run_until(done(harness, 1))
    assert seen == [threading.get_ident()]


def test_a_grammars_fault_is_the_requests_and_names_its_field() -> None:
    runner = FakeRunner(n_words=5)
    harness = Harness(runner)
    sample = runner._sample

    def broken(slot: int, row: FakeRow) -> RowEvent:
        if row.task.job.id == 1:
            return RowEvent(slot, None, 0, Finish.GRAMMAR, None, "the grammar is too ambiguous")
        return sample(slot, row)

    runner._sample = broken  # type: ignore[method-assign]
    harness.add(1).grammar_field = "response_format"
    harness.add(2)
    harness.run_until(done(harness, 2))
    failed = harness.events[1][-1]
    assert isinstance(failed, Failed)
    error = failed.error()
    assert isinstance(error, InvalidRequestError)
    assert error.param == "response_format"
    assert harness.text(2) == "abcde"


def test_what_was_held_back_at_a_deadline_is_said() -> None:
    runner = FakeRunner(n_words=1000)
    harness = Harness(runner)
    task = harness.add(1)
    task.deadline = 0.0
    tasks = harness.loop._tasks
    expire = tasks.expire

    def late(now: float) -> None:
        for row in list(runner.rows.values()):
            row.held = "EN"
            expire(now)

    tasks.expire = late  # type: ignore[method-assign]
    harness.run_until(done(harness, 1))
    assert harness.text(1).endswith("EN")
    end = harness.events[1][-1]
    assert isinstance(end, Finished)
    assert end.reason == "length"


def choice(choices: Choices, number: int, **fields: Any) -> Task:
    return Task(
        job=Job(number + 1, [1, 2, 3]),
        choices=choices,
        n_prompt=3,
        sampler=FakeSampler(),  # type: ignore[arg-type]
        stops=[],
        max_tokens=None,
        choice=number,
        **fields,
    )


class FakeBytes:
    def prompt(self, _tokens: list[int], _scores: list[object]) -> PromptScored:
        return PromptScored([])


def test_no_choice_speaks_before_the_prompts_scores() -> None:
    choices = Choices(1, 2)
    first = choice(choices, 0, prompt_logprobs=0, token_bytes=FakeBytes())
    second = choice(choices, 1)
    assert second.events(RowEvent(1, 7, 1, Finish.NONE, None, "b"), 1.0) == []
    assert second.events(RowEvent(1, 7, 2, Finish.LIMIT, None, "c"), 1.0) == []
    told = first.events(RowEvent(0, 7, 1, Finish.NONE, None, "a"), 2.0)
    assert [type(event) for event in told] == [PromptScored, Delta, Delta, Finished, Delta]
    assert [event.choice for event in told[1:]] == [1, 1, 1, 0]
    cut = first.events(RowEvent(0, None, 1, Finish.LIMIT, None, ""), 3.0)
    assert [type(event) for event in cut] == [Finished]


def test_all_choices_have_the_cached_tokens_of_the_first() -> None:
    choices = Choices(1, 2)
    first, second = choice(choices, 0), choice(choices, 1)
    first.job.n_shared, second.job.n_shared = 1, 2
    for task in (first, second):
        (end,) = task.events(RowEvent(0, None, 0, Finish.LIMIT, None, ""), 1.0)
        assert end.usage.cached_tokens == 1
