"""Logits that are read where they were computed: what logits-in-place.patch must keep."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from shimmy.llama import Batch, Context, ContextParams, Model

TOKENS = [1 + i * 7 % 200 for i in range(40)]


def decoded(model: Model, outputs: list[int], *, n_ubatch: int) -> dict[int, NDArray[np.float32]]:
    """Feed TOKENS as one batch in ubatches of a size; return the logits behind some of them."""
    params = ContextParams(n_ctx=64, n_batch=40, n_ubatch=n_ubatch)
    with Context(model, params) as context:
        batch = Batch(40)
        for pos, token in enumerate(TOKENS):
            batch.add(token, pos, 0, logits=pos in outputs)
        context.decode(batch)
        return {pos: context.logits(pos) for pos in outputs}


@pytest.mark.parametrize(
    "outputs", [[0], [7], [3, 5], [39], [0, 39], list(range(40))], ids=lambda v: str(v)[:12]
)
@pytest.mark.parametrize("n_ubatch", [8, 16, 39])
def test_later_parts_of_a_batch_leave_the_logits_of_earlier_ones(
    model: Model, outputs: list[int], n_ubatch: int
) -> None:
    whole = decoded(model, outputs, n_ubatch=40)
    parts = decoded(model, outputs, n_ubatch=n_ubatch)
    for pos in outputs:
        np.testing.assert_allclose(parts[pos], whole[pos], atol=2e-2)


def test_they_stay_while_sequences_are_copied_saved_and_removed(model: Model) -> None:
    with Context(model, ContextParams(n_ctx=128, n_seq_max=4, kv_unified=True)) as context:
        context.decode(Batch.of(TOKENS))
        before = context.logits()
        state = context.state.copy_out(0)
        context.memory.seq_cp(0, 1)
        context.memory.seq_add(1, 8, 40, 2)
        context.memory.seq_rm(0, 20)
        context.state.copy_in(state, 2)
        context.memory.clear()
        np.testing.assert_array_equal(context.logits(), before)


def test_the_next_batch_has_its_own(model: Model) -> None:
    with Context(model, ContextParams(n_ctx=64)) as context:
        context.decode(Batch.of(TOKENS))
        first = context.logits()
        context.decode(Batch.of([9], pos=len(TOKENS)))
        second = context.logits()
        assert not np.array_equal(first, second)
        silent = Batch(1)
        silent.add(11, len(TOKENS) + 1, 0, logits=False)
        context.decode(silent)
        with pytest.raises(Exception, match="logits"):
            context.logits()


def test_rows_of_several_sequences_keep_their_order(model: Model) -> None:
    """Sequences with cells of their own are computed side by side: in another order than they were given."""
    lengths = {0: 5, 1: 9, 2: 3, 3: 7}
    alone = {}
    for seq_id, n in lengths.items():
        with Context(model, ContextParams(n_ctx=64)) as context:
            context.decode(Batch.of(TOKENS[seq_id : seq_id + n]))
            alone[seq_id] = context.logits()
    for unified in (True, False):
        with Context(model, ContextParams(n_ctx=256, n_seq_max=4, kv_unified=unified)) as context:
            batch = Batch(64)
            ends = {}
            for pos in range(max(lengths.values())):
                for seq_id, n in lengths.items():
                    if pos < n:
                        if pos == n - 1:
                            ends[seq_id] = batch.n_tokens
                        batch.add(TOKENS[seq_id + pos], pos, seq_id, logits=pos == n - 1)
            context.decode(batch)
            for seq_id, index in ends.items():
                np.testing.assert_allclose(context.logits(index), alone[seq_id], atol=2e-2)
