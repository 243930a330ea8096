"""Q8_0 weights beside each other: what cpu-repack-q8_0.patch must keep, and what it is for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from shimmy.llama import Batch, Context, ContextParams, Model, ModelParams
from tests.support.tiny_gguf import vocabulary

CPUINFO = Path("/proc/cpuinfo")
CPU_FLAGS = set(CPUINFO.read_text().split()) if CPUINFO.is_file() else set()
needs_vnni = pytest.mark.skipif("avx512_vnni" not in CPU_FLAGS, reason="no AVX512-VNNI here")

N_TOKENS = 77
# Rows of the output matrix lie beside each other where they are a multiple of 16.
N_UNUSED = -len(vocabulary()[0]) % 16
SHAPES = {
    "dense": {},
    "repacked output": {"n_unused": N_UNUSED},
    "experts": {"n_expert": 6, "n_expert_used": 2},
    "one expert": {"n_expert": 4, "n_expert_used": 1, "n_unused": N_UNUSED},
}


def logits(
    path: Path, n_rows: int, *, repack: bool = True, n_threads: int = 2
) -> NDArray[np.float32]:
    """Give each of N_TOKENS sequences a token, `n_rows` of them at a time; return (N_TOKENS, n_vocab)."""
    params = ContextParams(
        n_ctx=256, n_batch=N_TOKENS, n_seq_max=N_TOKENS, kv_unified=True,
        n_threads=n_threads, n_threads_batch=n_threads,
    )  # fmt: skip
    found: list[NDArray[np.float32]] = []
    with (
        Model.load(path, ModelParams(use_extra_bufts=repack)) as model,
        Context(model, params) as context,
    ):
        for first in range(0, N_TOKENS, n_rows):
            rows = range(first, min(first + n_rows, N_TOKENS))
            batch = Batch(n_rows)
            for row in rows:
                batch.add(1 + row * 7 % 200, 0, row, logits=True)
            context.decode(batch)
            found += [context.logits(i) for i in range(len(rows))]
    return np.stack(found)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n_rows", [1, 3, 8, 22, 77])
def test_it_computes_what_the_rows_of_the_file_say(
    tiny_of: Callable[..., Path], shape: str, n_rows: int
) -> None:
    path = tiny_of(q8_0=True, **SHAPES[shape])
    as_in_the_file = logits(path, n_rows, repack=False)
    # where a sum that is rounded otherwise tips a value of the next layer's input over to its neighbour, some hundredths
    np.testing.assert_allclose(logits(path, n_rows), as_in_the_file, atol=0.1)


@needs_vnni
def test_it_is_used(tiny_of: Callable[..., Path]) -> None:
    """Sums are made in another order then; else the tests here would hold the kernel against itself."""
    path = tiny_of(q8_0=True, n_unused=N_UNUSED)
    assert not np.array_equal(logits(path, 22), logits(path, 22, repack=False))


@needs_vnni
@pytest.mark.parametrize("shape", SHAPES)
def test_a_row_has_the_same_bits_in_whatever_batch_and_by_whatever_threads(
    tiny_of: Callable[..., Path], shape: str
) -> None:
    path = tiny_of(q8_0=True, **SHAPES[shape])
    same(logits(path, n_rows, n_threads=n) for n_rows, n in [(77, 2), (77, 1), (40, 3), (9, 2)])


@needs_vnni
def test_results_that_are_written_past_the_cache_are_whole(tiny_of: Callable[..., Path]) -> None:
    """77 rows of this vocabulary are more than 8 MiB, 9 are not."""
    path = tiny_of(q8_0=True, n_unused=30_000 + -(30_000 + len(vocabulary()[0])) % 16)
    same(logits(path, n_rows) for n_rows in [77, 9])


def same(arrays: Iterable[NDArray[np.float32]]) -> None:
    first, *others = arrays
    assert np.isfinite(first).all()
    for other in others:
        np.testing.assert_array_equal(other, first)
