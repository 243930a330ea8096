"""Steps that run ahead: the same tokens as without, and nothing else may touch the rows meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from shimmy.errors import InvalidRequestError
from shimmy.llama import Context, ContextParams, Model
from shimmy.llama.row_sampler import RowSampler
from shimmy.llama.stepper import Finish, StepCode, Stepper

PROMPTS = ([5, 6, 7], [9, 8], [4, 5, 6, 7, 8])
SAMPLED = b'{"temperature": 0.9, "top_k": 20, "seed": 3, "ignore_eos": true}'


@pytest.fixture
def stepper(context: Context) -> Iterator[Stepper]:
    with Stepper(context, 4) as stepper:
        yield stepper


def opened(stepper: Stepper, model: Model, *, max_tokens: int = 20) -> list[tuple[int, int]]:
    """Open a row for each prompt, and return the plan that feeds them."""
    for row, prompt in enumerate(PROMPTS):
        sampler = RowSampler(model, SAMPLED, n_ctx=64)
        stepper.open_row(
            row, prompt, seq_id=row, n_ctx=64, sampler=sampler, max_tokens=max_tokens, logprobs=2
        )
    return [(row, len(prompt)) for row, prompt in enumerate(PROMPTS)]


def closed(stepper: Stepper) -> None:
    for row in range(len(PROMPTS)):
        stepper.close_row(row)
        stepper.remove_sequence(row)


def run(stepper: Stepper, plan: list[tuple[int, int]], *, ahead: bool) -> tuple[list[object], int]:
    """Step until the rows end; return what they said, and how many steps ran ahead."""
    told: list[object] = []
    n_ahead = 0
    code, events = stepper.step(plan, ahead=ahead)
    while True:
        assert code is StepCode.OK
        told += [(e.row, e.token, e.n_generated, e.finish, e.text, e.scores) for e in events]
        if stepper.in_flight:
            n_ahead += 1
            code, events = stepper.take(ahead=ahead)
        elif events[0].finish is not Finish.NONE:
            return told, n_ahead
        else:
            code, events = stepper.step([(e.row, 1) for e in events], ahead=ahead)


def test_rows_say_the_same_ahead_as_step_by_step(stepper: Stepper, model: Model) -> None:
    expected, none = run(stepper, opened(stepper, model), ahead=False)
    closed(stepper)
    told, n_ahead = run(stepper, opened(stepper, model), ahead=True)
    assert told == expected
    assert (none, n_ahead) == (0, 19)


def test_a_caller_that_is_slower_than_the_step_still_gets_the_next_one_ahead(
    stepper: Stepper, model: Model
) -> None:
    stepper.step(opened(stepper, model), ahead=True)
    assert stepper.in_flight
    time.sleep(0.1)
    stepper.take(ahead=True)
    assert stepper.in_flight
    stepper.take()
    assert not stepper.in_flight


def test_no_step_follows_one_with_which_a_row_ends(stepper: Stepper, model: Model) -> None:
    _, events = stepper.step(opened(stepper, model, max_tokens=1), ahead=True)
    assert {event.finish for event in events} == {Finish.LIMIT}
    assert not stepper.in_flight


def test_no_step_follows_one_that_leaves_a_prompt_half_fed(stepper: Stepper, model: Model) -> None:
    plan = opened(stepper, model)
    plan[2] = (2, 3)
    _, events = stepper.step(plan, ahead=True)
    assert len(events) == 2
    assert not stepper.in_flight


def test_nothing_touches_the_rows_while_a_step_is_in_flight(stepper: Stepper, model: Model) -> None:
    stepper.step(opened(stepper, model), ahead=True)
    for touch in (
        lambda: stepper.step([(0, 1)]),
        lambda: stepper.close_row(0),
        lambda: stepper.remove_sequence(3),
        lambda: stepper.rewind_row(0),
        lambda: stepper.flush_row(0),
        lambda: stepper.advance_row(0, 5),
        lambda: stepper.shift_row(0, 1, 1, move=True),
        lambda: stepper.open_row(
            3, [5], seq_id=3, n_ctx=64, sampler=RowSampler(model, SAMPLED, n_ctx=64)
        ),
    ):
        with pytest.raises(InvalidRequestError, match="a step is in flight"):
            touch()
    assert stepper.take()[0] is StepCode.OK
    stepper.close_row(0)


def test_taking_without_a_step_in_flight_is_an_empty_plan(stepper: Stepper) -> None:
    with pytest.raises(InvalidRequestError, match="empty"):
        stepper.take()


def test_cells_that_run_out_ahead_are_told_when_taken(model: Model) -> None:
    params = ContextParams(n_ctx=256, n_seq_max=1)
    with Context(model, params) as context, Stepper(context, 1) as stepper:
        sampler = RowSampler(model, SAMPLED, n_ctx=4096)
        stepper.open_row(0, [5] * 200, seq_id=0, n_ctx=4096, sampler=sampler)
        code, events = stepper.step([(0, 200)], ahead=True)
        n = 200
        while code is StepCode.OK:
            n += 1
            code, events = (
                stepper.take(ahead=True)
                if stepper.in_flight
                else stepper.step([(0, 1)], ahead=True)
            )
        assert (code, events) == (StepCode.KV_FULL, [])
        assert n == 257
        assert not stepper.in_flight


def test_the_rows_can_be_freed_while_a_step_is_in_flight(context: Context, model: Model) -> None:
    for _ in range(20):
        with Stepper(context, 4) as stepper:
            stepper.step(opened(stepper, model), ahead=True)
            assert stepper.in_flight
        for row in range(len(PROMPTS)):
            context.memory.seq_rm(row)


def test_hold_lets_no_further_step_begin(stepper: Stepper, model: Model) -> None:
    stepper.step(opened(stepper, model), ahead=True)
    time.sleep(0.1)  # the step has ended, and waits to be taken
    stepper.hold()
    stepper.take()
    assert not stepper.in_flight
