"""The loop while steps run ahead: everybody is heard, and nothing touches the rows of a step in flight.

`FakeRunner` asserts the latter: no row is opened, closed or removed while one is.
"""

from __future__ import annotations

import time

from shimmy.engine.types.event import Failed, Finished
from shimmy.worker.portions import MIN_BITE
from tests.worker.test_loop import FakeRunner, Harness, done


def ahead(n_words: int = 20, n_cells: int = 10_000) -> FakeRunner:
    return FakeRunner(n_words=n_words, n_cells=n_cells, runs_ahead=True)


def test_rows_that_go_on_run_ahead_and_say_the_same() -> None:
    texts = []
    for runs_ahead in (False, True):
        runner = FakeRunner(n_words=20, runs_ahead=runs_ahead)
        harness = Harness(runner)
        for number in (1, 2, 3):
            harness.add(number)
        harness.run_until(done(harness, 1, 2, 3))
        texts.append([harness.text(number) for number in (1, 2, 3)])
        assert runner.n_ahead == (19 if runs_ahead else 0)
    assert texts[0] == texts[1]


def test_a_request_that_comes_while_a_step_is_in_flight_joins_after_it() -> None:
    runner = ahead()
    harness = Harness(runner)
    harness.add(1)
    came: list[int] = []

    def check() -> bool:
        if runner.in_flight is False and runner.n_ahead == 5 and not came:
            came.append(len(harness.events[1]))
            harness.add(2)
        return done(harness, 1, 2)()

    harness.run_until(check)
    assert harness.text(1) == harness.text(2)
    # it did not wait for the first one's end
    assert runner.n_ahead < 2 * 19
    first_of_2 = harness.events[2][0]
    assert not isinstance(first_of_2, Failed)


def test_whoever_speaks_holds_the_steps_that_have_not_begun() -> None:
    runner = ahead()
    harness = Harness(runner)
    harness.add(1)
    harness.loop.cancel(1)
    harness.loop.call(lambda: None)
    harness.loop.stop()
    assert runner.n_held == 4


def test_a_cancelled_request_leaves_after_the_step_in_flight_and_its_cells_are_counted() -> None:
    runner = ahead(n_words=500)
    harness = Harness(runner)
    harness.add(1)
    harness.add(2)

    def check() -> bool:
        if runner.n_ahead == 7:
            harness.loop.cancel(1)
            harness.loop.cancel(2)
            harness.loop.stop()
        return False

    harness.loop.call(lambda: None)
    harness.run_until(check)
    assert harness.scheduler.idle
    assert not runner.rows
    # what llama.cpp holds of them is what the index counts
    assert sum(runner.cells.values()) == harness.index.n_cells


def test_a_call_sees_no_step_in_flight() -> None:
    runner = ahead(n_words=50)
    harness = Harness(runner)
    harness.add(1)
    seen: list[bool] = []

    def check() -> bool:
        if runner.n_ahead == 9:
            harness.loop.call(lambda: seen.append(runner.in_flight))
        return done(harness, 1)()

    harness.run_until(check)
    assert seen
    assert not any(seen)


def test_what_came_of_a_step_is_told_before_whoever_holds_the_next_one_is_heard() -> None:
    runner = ahead(n_words=50)
    harness = Harness(runner)
    harness.add(1)
    told: list[tuple[int, int]] = []

    def hear() -> None:
        told.append((runner.rows[0].n_generated, len(harness.text(1))))

    def check() -> bool:
        if runner.n_ahead == 9:
            harness.loop.call(hear)
        return done(harness, 1)()

    harness.run_until(check)
    assert told
    assert all(said == generated for generated, said in told)


def test_a_deadline_that_passes_ends_its_request_although_steps_run_ahead() -> None:
    runner = ahead(n_words=10_000)
    harness = Harness(runner)
    task = harness.add(1)
    task.deadline = time.monotonic() + 0.02
    began = time.monotonic()
    runner.pause = 0.001
    harness.run_until(lambda: done(harness, 1)() or time.monotonic() > began + 5)
    last = harness.events[1][-1]
    assert isinstance(last, Finished)
    assert last.reason == "length"
    assert runner.n_ahead > 0


def test_rows_that_outgrow_the_cells_pause_although_steps_run_ahead() -> None:
    runner = ahead(n_words=20, n_cells=130)
    harness = Harness(runner, n_cells=10_000)
    for number in (1, 2, 3):
        harness.add(number, n_tokens=40)
    harness.run_until(done(harness, 1, 2, 3))
    assert runner.n_full > 0
    assert runner.n_ahead > 0
    assert len({harness.text(number) for number in (1, 2, 3)}) == 1


def test_no_step_runs_ahead_while_a_prompt_waits() -> None:
    runner = ahead(n_words=5)
    harness = Harness(runner, n_slots=1)
    harness.add(1, n_tokens=4 * MIN_BITE)
    harness.add(2)
    harness.run_until(done(harness, 1))
    assert runner.n_ahead == 0
    runner.before_step = lambda: None
