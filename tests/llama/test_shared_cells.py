"""Rows among other sequences' cells: what cpu-attention-shared-cells.patch must keep, and what it is for."""

from __future__ import annotations

import time

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


def many_rows(
    model: Model, n_rows: int, n_prompt: int, *, n_batch: int
) -> tuple[NDArray[np.float32], float]:
    """Give each of `n_rows` sequences a prompt, then decode a token of each, `n_batch` rows at a time.

    Returns the logits of row 0, and the CPU seconds of the fastest of a few steps over all rows.
    """
    params = ContextParams(
        n_ctx=n_rows * (n_prompt + 8),
        n_batch=max(n_prompt, n_rows),
        n_seq_max=n_rows,
        kv_unified=True,
        flash_attn_type=FlashAttn.ON,
        n_threads=1,
        n_threads_batch=1,
    )
    fastest = float("inf")
    with Context(model, params) as context:
        for row in range(n_rows):
            tokens = [TOKENS[(row + i) % len(TOKENS)] for i in range(n_prompt)]
            context.decode(Batch.of(tokens, seq_id=row))
        for pos in range(n_prompt, n_prompt + 4):
            began = time.thread_time()
            for first in reversed(range(0, n_rows, n_batch)):
                batch = Batch(n_batch)
                for row in range(first, min(first + n_batch, n_rows)):
                    batch.add(TOKENS[(row + pos) % len(TOKENS)], pos, row, logits=row == 0)
                context.decode(batch)
            fastest = min(fastest, time.thread_time() - began)
        return context.logits(0), fastest


def test_more_rows_than_a_tile_give_the_same_logits(model: Model) -> None:
    together, _ = many_rows(model, 80, 10, n_batch=80)
    in_parts, _ = many_rows(model, 80, 10, n_batch=20)
    np.testing.assert_allclose(together, in_parts, atol=2e-2)


def test_rows_do_not_compute_each_others_cells(model: Model) -> None:
    """128 sequences in one step cost about what they cost in four: in tiles it would be several times as much."""
    _, together = many_rows(model, 128, 128, n_batch=128)
    _, in_parts = many_rows(model, 128, 128, n_batch=32)
    assert together < 1.6 * in_parts


def lone_row(
    model: Model,
    *,
    n_threads: int,
    before: int = 0,
    amid: int = 0,
    after: int = 0,
    n_prompt: int = 20,
) -> NDArray[np.float32]:
    """Decode a prompt and then a token at a time, with so many cells of another sequence before, amid and behind them.

    Returns the last logits.
    """
    params = ContextParams(
        n_ctx=4096,
        n_batch=2048,
        n_seq_max=2,
        kv_unified=True,
        flash_attn_type=FlashAttn.ON,
        n_threads=n_threads,
        n_threads_batch=n_threads,
    )
    others = 0

    def occupy(context: Context, n_cells: int) -> None:
        nonlocal others
        if n_cells:
            batch = Batch(n_cells)
            for i in range(n_cells):
                batch.add(3 + i % 200, others + i, 1, logits=False)
            context.decode(batch)
            others += n_cells

    with Context(model, params) as context:
        occupy(context, before)
        context.decode(Batch.of([1 + i * 7 % 200 for i in range(n_prompt)], seq_id=0))
        occupy(context, amid)
        for pos in range(n_prompt, n_prompt + 20):
            if pos == n_prompt + 19:
                occupy(context, after)
            one = Batch(1)
            one.add(1 + pos * 7 % 200, pos, 0, logits=True)
            context.decode(one)
        return context.logits(0)


@pytest.mark.parametrize("n_threads", [1, 2, 3, 7])
@pytest.mark.parametrize(
    ("before", "amid", "after"),
    [(0, 0, 1000), (1000, 0, 0), (1, 0, 700), (0, 900, 0), (501, 313, 207), (0, 0, 470)],
)
@pytest.mark.parametrize("n_prompt", [20, 100, 700])
def test_a_lone_row_says_the_same_to_the_bit_wherever_its_cells_are(
    model: Model, before: int, amid: int, after: int, n_threads: int, n_prompt: int
) -> None:
    """Whether its prompt is fed in tiles or not, and its cells are split among the threads or not."""
    alone = lone_row(model, n_threads=n_threads, n_prompt=n_prompt)
    among_others = lone_row(
        model, before=before, amid=amid, after=after, n_threads=n_threads, n_prompt=n_prompt
    )
    np.testing.assert_array_equal(among_others, alone)


@pytest.mark.parametrize("n_prompt", [20, 100, 700])
def test_threads_share_out_a_lone_row(model: Model, n_prompt: int) -> None:
    one, several = (lone_row(model, n_threads=n, n_prompt=n_prompt) for n in (1, 5))
    np.testing.assert_allclose(several, one, atol=5e-2)
