"""Tokens that several sequences share: what batch-coupled-sequences.patch must keep, and what it is for."""

from __future__ import annotations

import time

import pytest

from shimmy.errors import InvalidRequestError
from shimmy.llama import Batch, Context, ContextParams, Model


def in_both(pos: int) -> Batch:
    batch = Batch(1, n_seq_max=2)
    batch.add(9, pos, [0, 1], logits=True)
    return batch


def test_sequences_that_share_a_token_must_have_the_same_cells(model: Model) -> None:
    with Context(model, ContextParams(n_ctx=64, n_seq_max=2, kv_unified=True)) as context:
        context.decode(Batch.of([1, 2, 3], seq_id=0))
        context.memory.seq_cp(0, 1)
        context.decode(in_both(3))
        context.memory.seq_rm(1, 0, 1)
        with pytest.raises(InvalidRequestError, match="sequence 1 is coupled to 0"):
            context.decode(in_both(4))


def fastest(model: Model, *, kv_unified: bool) -> float:
    """Return the CPU seconds of the fastest step of a row; shared cells are ready for 256 sequences."""
    params = ContextParams(n_ctx=256, kv_unified=kv_unified, n_threads=1, n_threads_batch=1)
    best = float("inf")
    with Context(model, params) as context:
        for pos in range(200):
            batch = Batch.of([5], pos=pos)
            began = time.thread_time()
            context.decode(batch)
            best = min(best, time.thread_time() - began)
    return best


def test_a_step_does_not_look_at_all_pairs_of_sequences(model: Model) -> None:
    """It took 70 µs, nearly three times what a step of this model takes without."""
    assert fastest(model, kv_unified=True) < 2 * fastest(model, kv_unified=False)
