"""A row among other sequences' cells: cpu-attention-skips-masked-cells.patch must not skip one of its own."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from shimmy.llama import Batch, Context, ContextParams, FlashAttn, Model

TOKENS = [1 + i * 7 % 200 for i in range(40)]


def last_logits(model: Model, *, gap: int) -> NDArray[np.float32]:
    """Feed TOKENS one by one, with `gap` cells of other sequences behind each; return the last row's logits."""
    params = ContextParams(
        n_ctx=4096, n_batch=64, n_seq_max=4, kv_unified=True, flash_attn_type=FlashAttn.ON
    )
    with Context(model, params) as context:
        for pos, token in enumerate(TOKENS):
            batch = Batch(64)
            # two rows: a single one over many cells takes another path, which splits them among threads
            batch.add(token, pos, 0, logits=True)
            batch.add(token, pos, 1, logits=True)
            for i in range(gap):
                batch.add(3 + i, pos * gap + i, 2, logits=False)
            context.decode(batch)
        return context.logits(0)


@pytest.mark.parametrize("gap", [1, 13, 14, 15, 16, 29, 30, 31, 32, 47, 48])
def test_cells_of_others_change_nothing(model: Model, gap: int) -> None:
    alone, among_others = last_logits(model, gap=0), last_logits(model, gap=gap)
    np.testing.assert_allclose(among_others, alone, atol=2e-2)
