from __future__ import annotations

import numpy as np
import pytest

from shimmy.errors import InvalidRequestError
from shimmy.llama import Batch, Context, ContextParams, DecodeStatus, Memory, Model

PROMPT = [1, 2, 3, 4, 5, 6]


def positions(memory: Memory, seq: int) -> tuple[int | None, int | None]:
    return memory.seq_pos_min(seq), memory.seq_pos_max(seq)


def test_positions_follow_decodes(context: Context) -> None:
    memory = context.memory
    assert positions(memory, 0) == (None, None)
    context.decode(Batch.of(PROMPT))
    assert positions(memory, 0) == (0, 5)


def test_clear_empties_everything(context: Context) -> None:
    context.decode(Batch.of(PROMPT, seq_id=1))
    context.memory.clear(data=True)
    assert positions(context.memory, 1) == (None, None)


def test_seq_rm_cuts_a_span(context: Context) -> None:
    context.decode(Batch.of(PROMPT))
    assert context.memory.seq_rm(0, 4)
    assert positions(context.memory, 0) == (0, 3)
    assert context.memory.seq_rm(0, None, 2)
    assert positions(context.memory, 0) == (2, 3)
    assert context.memory.seq_rm(None)
    assert positions(context.memory, 0) == (None, None)


def test_a_cut_sequence_continues_as_if_never_longer(model: Model) -> None:
    params = ContextParams(n_ctx=256)
    with Context(model, params) as cut, Context(model, params) as plain:
        cut.decode(Batch.of([*PROMPT, 9, 9]))
        cut.memory.seq_rm(0, len(PROMPT))
        cut.decode(Batch.of([7], pos=len(PROMPT)))
        plain.decode(Batch.of(PROMPT))
        plain.decode(Batch.of([7], pos=len(PROMPT)))
        np.testing.assert_array_equal(cut.logits(), plain.logits())


def test_seq_cp_shares_a_prefix_even_with_ids_beyond_n_seq_max(context: Context) -> None:
    context.decode(Batch.of(PROMPT))
    context.memory.seq_cp(0, 255, 0, 4)
    assert positions(context.memory, 255) == (0, 3)
    assert context.decode(Batch.of([5], seq_id=255, pos=4)) is DecodeStatus.OK
    shared = context.logits()
    context.memory.seq_rm(0)
    context.decode(Batch.of(PROMPT[:4], seq_id=0))
    context.decode(Batch.of([5], seq_id=0, pos=4))
    np.testing.assert_allclose(shared, context.logits(), atol=1e-2)


def test_seq_keep_removes_the_others(context: Context) -> None:
    batch = Batch(2)
    batch.add(1, 0, 0)
    batch.add(1, 0, 1, logits=True)
    context.decode(batch)
    context.memory.seq_keep(1)
    assert positions(context.memory, 0) == (None, None)
    assert positions(context.memory, 1) == (0, 0)


def test_seq_add_and_seq_div_move_positions(context: Context) -> None:
    memory = context.memory
    assert memory.can_shift
    context.decode(Batch.of(PROMPT))
    memory.seq_add(0, 10)
    assert positions(memory, 0) == (10, 15)
    memory.seq_add(0, -10, 10, None)
    assert positions(memory, 0) == (0, 5)
    memory.seq_div(0, 2)
    assert positions(memory, 0) == (0, 2)
    assert context.decode(Batch.of([1], pos=3)) is DecodeStatus.OK


def test_own_streams_copy_whole_sequences_only(model: Model) -> None:
    with Context(model, ContextParams(n_ctx=512, n_seq_max=2)) as context:
        context.decode(Batch.of(PROMPT))
        context.memory.seq_cp(0, 1)
        assert context.decode(Batch.of([1], seq_id=1, pos=6)) is DecodeStatus.OK
        for p0, p1 in ((2, None), (None, 3), (0, 3)):
            with pytest.raises(InvalidRequestError, match="whole sequence"):
                context.memory.seq_cp(0, 1, p0, p1)
        memory = context.memory
        for use in (
            lambda: memory.seq_cp(0, 2),
            lambda: memory.seq_cp(2, 0),
            lambda: memory.seq_rm(2),
            lambda: memory.seq_keep(2),
            lambda: memory.seq_add(2, 1),
            lambda: memory.seq_div(2, 2),
            lambda: memory.seq_pos_min(2),
            lambda: memory.seq_pos_max(2),
        ):
            with pytest.raises(InvalidRequestError, match="no stream of its own: n_seq_max is 2"):
                use()


def test_a_single_stream_takes_all_sequence_ids(model: Model) -> None:
    with Context(model, ContextParams(n_ctx=256)) as context:
        context.decode(Batch.of(PROMPT))
        context.memory.seq_cp(0, 255, 0, 3)
        assert positions(context.memory, 255) == (0, 2)


def test_a_recurrent_memory_cannot_be_cut_and_says_so(tiny_of) -> None:
    with Model.load(tiny_of(arch="mamba")) as model, Context(model) as context:
        context.decode(Batch.of(PROMPT))
        assert not context.memory.seq_rm(0, 3)
        assert context.memory.seq_pos_max(0) == 5
        assert context.memory.seq_rm(0)
        assert positions(context.memory, 0) == (None, None)


def test_an_encoder_has_no_memory(tiny_of) -> None:
    with Model.load(tiny_of(arch="bert")) as model, Context(model) as context:
        memory = context.memory
        assert not memory.can_shift
        for use in (
            memory.clear,
            lambda: memory.seq_rm(0),
            lambda: memory.seq_keep(0),
            lambda: memory.seq_pos_max(0),
        ):
            with pytest.raises(InvalidRequestError, match="no memory"):
                use()


@pytest.mark.parametrize(("p0", "p1"), [(-1, None), (None, -1), (2**31, None), (None, 2**31)])
def test_spans_are_checked(context: Context, p0: int | None, p1: int | None) -> None:
    with pytest.raises(InvalidRequestError):
        context.memory.seq_rm(0, p0, p1)


@pytest.mark.parametrize("divisor", [0, -1])
def test_divisors_are_checked(context: Context, divisor: int) -> None:
    with pytest.raises(InvalidRequestError):
        context.memory.seq_div(0, divisor)
