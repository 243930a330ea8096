"""Rows and steps through the shim: what a wrong call gives, and what the rows keep."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from shimmy.errors import ClosedError, InvalidRequestError
from shimmy.llama import Context, ContextParams, Model
from shimmy.llama.row_sampler import RowSampler
from shimmy.llama.stepper import Finish, StepCode, Stepper

GREEDY = b'{"temperature": 0, "seed": 1, "ignore_eos": true}'


@pytest.fixture
def stepper(context: Context) -> Iterator[Stepper]:
    with Stepper(context, 4) as stepper:
        yield stepper


@pytest.fixture
def sampler(model: Model) -> Iterator[RowSampler]:
    with RowSampler(model, GREEDY, n_ctx=256) as sampler:
        yield sampler


def generate(stepper: Stepper, row: int, n_prompt: int, n: int) -> list[int]:
    tokens = []
    waiting = n_prompt
    for _ in range(n):
        code, events = stepper.step([(row, waiting)])
        assert code is StepCode.OK
        tokens.append(events[0].token)
        waiting = 1
    return tokens


def test_a_row_feeds_its_prompt_and_samples_one_token_a_step(
    stepper: Stepper, sampler: RowSampler
) -> None:
    stepper.open_row(0, [5, 6, 7], seq_id=0, n_ctx=64, sampler=sampler)
    code, events = stepper.step([(0, 2)])
    assert (code, events) == (StepCode.OK, [])
    _, (event,) = stepper.step([(0, 1)])
    assert (event.row, event.n_generated, event.finish) == (0, 1, Finish.NONE)


def test_a_rewound_row_goes_on_with_the_same_tokens(stepper: Stepper, model: Model) -> None:
    prompt = [5, 6, 7, 8]
    stepper.open_row(0, prompt, seq_id=0, n_ctx=64, sampler=RowSampler(model, GREEDY, n_ctx=64))
    expected = generate(stepper, 0, 4, 8)
    stepper.close_row(0)
    stepper.remove_sequence(0)
    stepper.open_row(0, prompt, seq_id=0, n_ctx=64, sampler=RowSampler(model, GREEDY, n_ctx=64))
    first = generate(stepper, 0, 4, 3)
    assert stepper.rewind_row(0) == 7
    assert first + generate(stepper, 0, 7, 5) == expected


def test_a_row_shares_the_cells_of_another(stepper: Stepper, model: Model) -> None:
    prompt = [5, 6, 7, 8, 9]
    stepper.open_row(0, prompt, seq_id=0, n_ctx=64, sampler=RowSampler(model, GREEDY, n_ctx=64))
    expected = generate(stepper, 0, 5, 4)
    stepper.open_row(
        1,
        prompt,
        seq_id=9,
        n_ctx=64,
        source=0,
        n_past=4,
        sampler=RowSampler(model, GREEDY, n_ctx=64),
    )
    assert generate(stepper, 1, 1, 4) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"row": 4}, "out of range"),
        ({"row": -1}, "out of range"),
        ({"seq_id": 256}, "seq_id"),
        ({"seq_id": -1}, "seq_id"),
        ({"tokens": []}, "tokens"),
        ({"tokens": [10_000_000]}, "vocabulary"),
        ({"tokens": [-1]}, "vocabulary"),
        ({"tokens": [2**40]}, "tokens"),
        ({"tokens": [5] * 64}, "tokens"),
        ({"n_past": 3}, "n_past"),
        ({"n_past": 2}, "do not reach"),
        ({"source": 300}, "source"),
    ],
    ids=str,
)
def test_a_row_that_cannot_be_is_refused_and_its_sampler_is_gone(
    stepper: Stepper, sampler: RowSampler, change: dict[str, object], message: str
) -> None:
    fields = {"row": 0, "tokens": [5, 6, 7], "seq_id": 0, "n_ctx": 64, "sampler": sampler} | change
    row, tokens = fields.pop("row"), fields.pop("tokens")
    with pytest.raises(InvalidRequestError, match=message):
        stepper.open_row(row, tokens, **fields)


def test_an_open_row_cannot_be_opened_again(stepper: Stepper, model: Model) -> None:
    stepper.open_row(0, [5], seq_id=0, n_ctx=64, sampler=RowSampler(model, GREEDY, n_ctx=64))
    with pytest.raises(InvalidRequestError, match="already open"):
        stepper.open_row(0, [5], seq_id=1, n_ctx=64, sampler=RowSampler(model, GREEDY, n_ctx=64))


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ([], "empty"),
        ([(1, 1)], "not open"),
        ([(9, 1)], "out of range"),
        ([(0, 0)], "fewer tokens"),
        ([(0, 4)], "fewer tokens"),
        ([(0, 1), (0, 1)], "twice"),
        ([(0, 1)] * 5, "rows"),
    ],
    ids=str,
)
def test_a_plan_that_cannot_be_is_refused_and_the_row_goes_on(
    stepper: Stepper, sampler: RowSampler, plan: list[tuple[int, int]], message: str
) -> None:
    stepper.open_row(0, [5, 6, 7], seq_id=0, n_ctx=64, sampler=sampler)
    with pytest.raises(InvalidRequestError, match=message):
        stepper.step(plan)
    assert len(generate(stepper, 0, 3, 2)) == 2


def test_more_tokens_than_n_batch_are_refused(stepper: Stepper, sampler: RowSampler) -> None:
    stepper.open_row(0, [5] * 100, seq_id=0, n_ctx=256, sampler=sampler)
    with pytest.raises(InvalidRequestError, match="n_batch"):
        stepper.step([(0, 100)])


def test_when_the_cells_do_not_suffice_nothing_has_changed(
    stepper: Stepper, model: Model, context: Context
) -> None:
    for row in range(4):
        sampler = RowSampler(model, GREEDY, n_ctx=256)
        stepper.open_row(row, [5 + row] * 80, seq_id=row, n_ctx=256, sampler=sampler)
    codes = []
    for row in range(4):
        codes += [stepper.step([(row, 60)])[0], stepper.step([(row, 20)])[0]]
    assert StepCode.KV_FULL in codes
    full = codes.index(StepCode.KV_FULL)
    assert all(code is StepCode.OK for code in codes[:full])
    assert context.memory.seq_pos_max(0) == 79


def test_a_sequence_that_a_row_runs_cannot_be_removed(
    stepper: Stepper, sampler: RowSampler
) -> None:
    stepper.open_row(0, [5], seq_id=3, n_ctx=64, sampler=sampler)
    with pytest.raises(InvalidRequestError, match="a row runs it"):
        stepper.remove_sequence(3)
    with pytest.raises(InvalidRequestError, match="seq_id"):
        stepper.remove_sequence(256)


@pytest.mark.parametrize("n_rows", [0, -1, 257])
def test_a_number_of_rows_that_cannot_be_is_refused(context: Context, n_rows: int) -> None:
    with pytest.raises(InvalidRequestError, match="n_rows"):
        Stepper(context, n_rows)


def test_a_closed_stepper_says_so(context: Context) -> None:
    stepper = Stepper(context, 1)
    stepper.close()
    with pytest.raises(ClosedError):
        stepper.step([(0, 1)])


def test_an_abort_leaves_the_row_as_it_was(
    stepper: Stepper, sampler: RowSampler, context: Context
) -> None:
    stepper.open_row(0, [5, 6, 7], seq_id=0, n_ctx=64, sampler=sampler)
    context.abort()
    code, _ = stepper.step([(0, 3)])
    context.clear_abort()
    assert code is StepCode.ABORTED
    assert len(generate(stepper, 0, 3, 2)) == 2


def log_softmax(logits: np.ndarray) -> np.ndarray:
    wide = logits.astype(np.float64) - logits.max()
    return wide - np.log(np.exp(wide).sum())


def test_log_probabilities_are_a_log_softmax_of_the_very_logits(
    stepper: Stepper, context: Context, model: Model
) -> None:
    sampler = RowSampler(model, b'{"temperature": 2, "seed": 1}', n_ctx=64)
    stepper.open_row(0, [5, 6, 7], seq_id=0, n_ctx=64, sampler=sampler, logprobs=20)
    _, (event,) = stepper.step([(0, 3)])
    expected = log_softmax(context.logits(-1))
    assert event.scores is not None
    (token, logprob), *top = event.scores.token
    assert token == event.token
    assert logprob == pytest.approx(expected[token], abs=1e-5)
    assert [one for one, _ in top] == np.argsort(-expected, kind="stable")[:20].tolist()
    assert [value for _, value in top] == pytest.approx(np.sort(expected)[::-1][:20], abs=1e-5)


def test_a_prompts_log_probabilities_come_with_the_first_event(
    stepper: Stepper, context: Context, model: Model
) -> None:
    prompt = [5, 6, 7, 8, 9, 10]
    stepper.open_row(
        0,
        prompt,
        seq_id=0,
        n_ctx=64,
        sampler=RowSampler(model, GREEDY, n_ctx=64),
        prompt_logprobs=1,
    )
    _, events = stepper.step([(0, 4)])
    assert events == []
    rows = [log_softmax(context.logits(i)) for i in range(4)]
    _, (event,) = stepper.step([(0, 2)])
    rows.append(log_softmax(context.logits(0)))
    assert event.scores is not None
    assert event.scores.token == []
    assert [scores[0][0] for scores in event.scores.prompt] == prompt[1:]
    for row, scores in zip(rows, event.scores.prompt, strict=True):
        assert scores[0][1] == pytest.approx(row[scores[0][0]], abs=1e-5)
        assert scores[1] == (int(row.argmax()), pytest.approx(row.max(), abs=1e-5))
    _, (event,) = stepper.step([(0, 1)])
    assert event.scores is None


def test_a_rewound_row_scores_each_token_of_its_prompt_once(stepper: Stepper, model: Model) -> None:
    prompt = [5, 6, 7, 8, 9, 10]
    sampler = RowSampler(model, GREEDY, n_ctx=64)
    stepper.open_row(0, prompt, seq_id=0, n_ctx=64, sampler=sampler, prompt_logprobs=0)
    stepper.step([(0, 4)])
    assert stepper.rewind_row(0) == 6
    _, (event,) = stepper.step([(0, 6)])
    assert event.scores is not None
    assert [scores[0][0] for scores in event.scores.prompt] == prompt[1:]


def test_a_row_without_tokens_to_generate_ends_with_its_prompt(
    stepper: Stepper, sampler: RowSampler
) -> None:
    stepper.open_row(0, [5, 6, 7], seq_id=0, n_ctx=64, sampler=sampler, max_tokens=0)
    _, (event,) = stepper.step([(0, 3)])
    assert (event.token, event.finish, event.n_generated, event.text) == (None, Finish.LIMIT, 0, "")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logprobs": 10_000}, "vocabulary"),
        ({"prompt_logprobs": 10_000}, "vocabulary"),
        ({"stop_tokens": [10_000_000]}, "stop_tokens"),
        ({"stop_tokens": [-1]}, "stop_tokens"),
    ],
    ids=str,
)
def test_what_a_row_cannot_tell_or_end_with_is_refused(
    stepper: Stepper, sampler: RowSampler, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        stepper.open_row(0, [5, 6], seq_id=0, n_ctx=64, sampler=sampler, **change)


def test_a_scored_prompt_shares_no_cells(stepper: Stepper, model: Model) -> None:
    stepper.open_row(0, [5, 6, 7], seq_id=0, n_ctx=64, sampler=RowSampler(model, GREEDY, n_ctx=64))
    stepper.step([(0, 3)])
    sampler = RowSampler(model, GREEDY, n_ctx=64)
    with pytest.raises(InvalidRequestError, match="scored"):
        stepper.open_row(
            1,
            [5, 6, 7],
            seq_id=1,
            n_ctx=64,
            source=0,
            n_past=2,
            sampler=sampler,
            prompt_logprobs=0,
        )


def test_more_rows_of_logits_than_the_context_holds_are_refused(model: Model) -> None:
    params = ContextParams(n_ctx=256, n_seq_max=2, n_outputs_max=4, kv_unified=True)
    with Context(model, params) as context, Stepper(context, 2) as stepper:
        sampler = RowSampler(model, GREEDY, n_ctx=64)
        stepper.open_row(0, [5] * 10, seq_id=0, n_ctx=64, sampler=sampler, prompt_logprobs=0)
        with pytest.raises(InvalidRequestError, match="n_outputs"):
            stepper.step([(0, 5)])
        assert stepper.step([(0, 4)])[0] is StepCode.OK


def test_a_full_row_that_shifts_goes_on_with_the_tokens_it_keeps(
    stepper: Stepper, sampler: RowSampler
) -> None:
    stepper.open_row(
        0, [5, 6, 7, 8, 9, 10], seq_id=0, n_ctx=16, sampler=sampler, shifts=True, max_tokens=30
    )
    generate(stepper, 0, 6, 9)
    _, (event,) = stepper.step([(0, 1)])
    assert event.finish is Finish.SHIFT
    stepper.shift_row(0, 2, 6, move=True)
    _, (event,) = stepper.step([(0, 1)])
    assert (event.n_generated, event.finish) == (11, Finish.NONE)


def test_a_shift_without_moving_has_the_rest_fed_again(
    stepper: Stepper, sampler: RowSampler
) -> None:
    stepper.open_row(0, list(range(5, 20)), seq_id=0, n_ctx=16, sampler=sampler, shifts=True)
    _, (event,) = stepper.step([(0, 15)])
    assert event.finish is Finish.SHIFT
    stepper.shift_row(0, 4, 5, move=False)
    # 16 tokens less 5, of which 4 are in cells
    _, (event,) = stepper.step([(0, 7)])
    assert event.n_generated == 2


@pytest.mark.parametrize(("n_keep", "n_discard"), [(-1, 2), (0, 0), (1, 3), (4, 4)])
def test_a_shift_that_leaves_nothing_to_shift_is_refused(
    n_keep: int, n_discard: int, stepper: Stepper, sampler: RowSampler
) -> None:
    stepper.open_row(0, [5, 6, 7, 8, 9], seq_id=0, n_ctx=16, sampler=sampler, shifts=True)
    stepper.step([(0, 4)])
    with pytest.raises(InvalidRequestError, match="n_keep"):
        stepper.shift_row(0, n_keep, n_discard, move=True)
    assert stepper.step([(0, 1)])[0] is StepCode.OK


@pytest.mark.parametrize(
    ("n_past", "word"), [(2, "goes back"), (5, "no token to feed"), (4, "do not reach")]
)
def test_a_row_advances_only_to_where_its_cells_reach(
    n_past: int, word: str, stepper: Stepper, sampler: RowSampler
) -> None:
    stepper.open_row(0, [5, 6, 7, 8, 9], seq_id=0, n_ctx=16, sampler=sampler)
    stepper.step([(0, 3)])
    with pytest.raises(InvalidRequestError, match=word):
        stepper.advance_row(0, n_past)
    stepper.advance_row(0, 3)
    assert len(stepper.step([(0, 2)])[1]) == 1


def test_a_grammar_that_takes_too_long_for_a_token_ends_its_row_alone(
    stepper: Stepper, sampler: RowSampler, model: Model
) -> None:
    slow = RowSampler(model, b'{"grammar": "root ::= [a-z]+"}', n_ctx=64)
    stepper.open_row(0, [5], seq_id=0, n_ctx=64, sampler=slow, grammar_seconds=1e-6)
    stepper.open_row(1, [5], seq_id=1, n_ctx=64, sampler=sampler, grammar_seconds=1e-6)
    _, (ended, other) = stepper.step([(0, 1), (1, 1)])
    assert ended.finish is Finish.GRAMMAR
    assert "ambiguous" in ended.text
    assert other.finish is Finish.NONE


def test_what_a_row_holds_back_can_be_taken(stepper: Stepper, model: Model) -> None:
    sampler = RowSampler(model, b'{"grammar": "root ::= \\"abcd\\" [x]+"}', n_ctx=64)
    stepper.open_row(0, [5], seq_id=0, n_ctx=64, sampler=sampler, stops=["abcdy"])
    said = ""
    for _ in range(2):
        _, (event,) = stepper.step([(0, 1)])
        said += event.text
    held = stepper.flush_row(0)
    assert held
    assert "abcdx".startswith(said + held)
    assert stepper.flush_row(0) == ""
