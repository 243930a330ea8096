from __future__ import annotations

import numpy as np
import pytest

from shimmy.errors import InvalidRequestError
from shimmy.llama import Batch, Context, DecodeStatus


def test_a_batch_fills_and_clears() -> None:
    batch = Batch(4)
    assert batch.add(7, 0) == 0
    batch.extend([8, 9], pos=1)
    assert list(batch.tokens) == [7, 8, 9]
    assert batch.n_tokens == 3
    assert batch.n_outputs == 1
    batch.clear()
    assert batch.n_tokens == 0
    batch.extend([1, 2, 3, 4])
    assert batch.n_outputs == 1, "nothing is left of before"


def test_extend_takes_arrays_and_nothing() -> None:
    batch = Batch(4)
    batch.extend(np.array([5, 6], np.int64))
    batch.extend([])
    assert list(batch.tokens) == [5, 6]


def test_a_token_in_several_sequences(context: Context) -> None:
    batch = Batch(2, n_seq_max=3)
    batch.add(1, 0, [0, 1, 2], logits=True)
    assert context.decode(batch) is DecodeStatus.OK
    assert [context.memory.seq_pos_max(seq) for seq in range(4)] == [0, 0, 0, None]


@pytest.mark.parametrize(
    ("arguments", "param"),
    [
        ((-1, 0, 0), "token"),
        ((2**31, 0, 0), "token"),
        ((1.5, 0, 0), "token"),
        ((True, 0, 0), "token"),
        ((1, -1, 0), "pos"),
        ((1, 2**31, 0), "pos"),
        ((1, 0, -1), "seq_ids"),
        ((1, 0, 256), "seq_ids"),
        ((1, 0, []), "seq_ids"),
        ((1, 0, [0, 1, 2]), "seq_ids"),
    ],
)
def test_add_refuses_what_is_out_of_range(arguments: tuple, param: str) -> None:
    batch = Batch(4, n_seq_max=2)
    with pytest.raises(InvalidRequestError) as caught:
        batch.add(*arguments)
    assert caught.value.param == param
    assert batch.n_tokens == 0


@pytest.mark.parametrize(
    ("tokens", "options", "param"),
    [
        ([-1], {}, "token"),
        ([2**31], {}, "token"),
        ([2**70], {}, "token"),
        ([0.5], {}, "token"),
        ([[1]], {}, "token"),
        (["a"], {}, "token"),
        ([1], {"seq_id": 256}, "seq_id"),
        ([1], {"seq_id": -1}, "seq_id"),
        ([1], {"pos": -1}, "pos"),
        ([1, 2], {"pos": 2**31 - 2}, "pos"),
        ([1] * 5, {}, "n_tokens"),
    ],
)
def test_extend_refuses_what_is_out_of_range(tokens: list, options: dict, param: str) -> None:
    batch = Batch(4)
    with pytest.raises(InvalidRequestError) as caught:
        batch.extend(tokens, **options)
    assert caught.value.param == param
    assert batch.n_tokens == 0


def test_a_full_batch_refuses_more() -> None:
    batch = Batch(1)
    batch.add(1, 0)
    with pytest.raises(InvalidRequestError, match="do not fit"):
        batch.add(1, 1)


@pytest.mark.parametrize(("capacity", "n_seq_max"), [(0, 1), (-1, 1), (2**31, 1), (1, 0), (1, 257)])
def test_bad_sizes(capacity: int, n_seq_max: int) -> None:
    with pytest.raises(InvalidRequestError):
        Batch(capacity, n_seq_max=n_seq_max)
