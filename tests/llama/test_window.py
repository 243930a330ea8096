"""Layers that keep a sliding window only: llama.cpp's own arithmetic, and what `Window` changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from shimmy.errors import InvalidRequestError
from shimmy.llama import Batch, Context, ContextParams, Model, StateFlags
from shimmy.llama.window import Window, window_of
from tests.support.tiny_gguf import N_SWA, write_model

TOKENS = [5 + (i * i) % 211 for i in range(400)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    path = write_model(tmp_path_factory.mktemp("swa") / "swa.gguf", arch="gemma3", n_layer=4)
    with Model.load(path) as model:
        yield model


def make(model: Model, *, swa_full: bool = False) -> Context:
    params = ContextParams(
        n_ctx=2048,
        n_batch=256,
        n_ubatch=64,
        n_seq_max=4,
        n_threads=1,
        kv_unified=True,
        swa_full=swa_full,
    )
    return Context(model, params)


def window(context: Context) -> Window:
    found = window_of(context)
    assert found is not None
    return found


def feed(context: Context, seq_id: int, tokens: list[int], first: int = 0) -> NDArray[np.float32]:
    """Return the logits of the last token."""
    for begin in range(0, len(tokens), 64):
        batch = Batch(64)
        part = tokens[begin : begin + 64]
        for i, token in enumerate(part):
            batch.add(token, first + begin + i, [seq_id], logits=i == len(part) - 1)
        context.decode(batch)
    return context.logits()


@pytest.mark.parametrize("bite", [1, 16, 20, 60])
def test_rows_that_share_a_pass_see_what_they_see_with_a_full_cache(
    model: Model, bite: int
) -> None:
    """A batch of several passes may not take the window from a row of an earlier pass."""
    logits: dict[bool, list[NDArray[np.float32]]] = {True: [], False: []}
    for full, seen in logits.items():
        with make(model, swa_full=full) as context:
            for begin in range(0, 360, bite):
                batch = Batch(256)
                for seq_id in range(4):
                    part = TOKENS[begin + seq_id : begin + seq_id + bite]
                    for i, token in enumerate(part):
                        batch.add(token, begin + i, [seq_id], logits=i == len(part) - 1)
                context.decode(batch)
                seen += [context.logits((seq_id + 1) * bite - 1) for seq_id in range(4)]
    differences = [np.abs(a - b).max() for a, b in zip(logits[True], logits[False], strict=True)]
    assert max(differences) < 0.05


def test_a_model_without_one_has_none(tiny_gguf: Path) -> None:
    with Model.load(tiny_gguf) as model, Context(model, ContextParams(n_ctx=256)) as context:
        assert window_of(context) is None


def test_it_is_as_small_as_the_sequences_need(model: Model) -> None:
    with make(model) as small, make(model, swa_full=True) as full:
        assert window(small).n_cells == 256
        assert window(full).n_cells == 2048


def test_a_sequence_goes_on_where_its_window_is(model: Model) -> None:
    with make(model) as context:
        seen = window(context)
        assert seen.reaches(0, 0)
        assert not seen.reaches(0, 1)
        feed(context, 0, TOKENS)
        assert seen.reaches(0, 400)
        assert not seen.reaches(0, 401)
        assert not seen.reaches(0, 100)
        assert seen.trim() == 1
        assert seen.trim() == 0
        assert context.memory.seq_pos_min(0) == 400 - N_SWA + 1
        assert seen.reaches(0, 400)
        assert not seen.reaches(0, 399)


def test_what_is_shared_can_be_trimmed_by_each(model: Model) -> None:
    with make(model) as context:
        feed(context, 0, TOKENS[:100])
        for seq_id in (1, 2, 3):
            context.memory.seq_cp(0, seq_id)
        for i in range(4):
            feed(context, i, TOKENS[:20], first=100)
        assert window(context).trim() == 4


def test_a_window_that_was_dropped_is_restored(model: Model) -> None:
    with make(model) as context:
        expected = feed(context, 0, TOKENS)
        context.memory.seq_rm(0)
        feed(context, 0, TOKENS[:300])
        state = context.state.copy_out(0, StateFlags.PARTIAL_ONLY)
        window(context).remove(0)
        assert not window(context).holds(0)
        assert context.memory.last(0) == 299
        assert context.memory.seq_pos_max(0) is None
        context.state.copy_in(state, 0, StateFlags.PARTIAL_ONLY)
        assert window(context).reaches(0, 300)
        again = feed(context, 0, TOKENS[300:], first=300)
    assert np.abs(again - expected).max() < 0.05


def test_a_sequence_that_cannot_be_is_refused(model: Model) -> None:
    with make(model) as context:
        for bad in (-1, 256):
            with pytest.raises(InvalidRequestError, match="seq_id"):
                window(context).remove(bad)
