from __future__ import annotations

import dataclasses
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from shimmy.errors import InvalidRequestError, LlamaError
from shimmy.llama import Batch, Context, ContextParams, Model, StateFlags

PROMPT = [1, 2, 3, 4, 5, 6]


def next_logits(context: Context, seq_id: int = 0) -> np.ndarray:
    context.decode(Batch.of([7], seq_id=seq_id, pos=len(PROMPT)))
    return context.logits()


@pytest.fixture
def filled(context: Context) -> Context:
    context.decode(Batch.of(PROMPT))
    return context


@pytest.fixture
def expected(model: Model, context: Context) -> np.ndarray:
    with Context(model, context.params) as other:
        other.decode(Batch.of(PROMPT))
        return next_logits(other)


def test_the_whole_state_goes_there_and_back(
    model: Model, filled: Context, expected: np.ndarray
) -> None:
    saved = filled.state.save()
    assert len(saved) == filled.state.size()
    with Context(model, filled.params) as other:
        other.state.restore(saved)
        assert other.memory.seq_pos_max(0) == 5
        np.testing.assert_array_equal(next_logits(other), expected)


def test_one_sequence_goes_into_another(filled: Context, expected: np.ndarray) -> None:
    saved = filled.state.save(0)
    filled.memory.clear()
    filled.state.restore(memoryview(saved), 3)
    assert filled.memory.seq_pos_max(0) is None
    np.testing.assert_array_equal(next_logits(filled, 3), expected)


def test_on_device_states_are_kept_by_the_context(filled: Context, expected: np.ndarray) -> None:
    saved = filled.state.save(0, StateFlags.ON_DEVICE)
    filled.memory.seq_rm(0)
    filled.state.restore(saved, 0, StateFlags.ON_DEVICE)
    np.testing.assert_array_equal(next_logits(filled), expected)


def test_a_recurrent_state_goes_there_and_back(tiny_of) -> None:
    with Model.load(tiny_of(arch="mamba")) as model, Context(model) as context:
        context.decode(Batch.of(PROMPT))
        saved = context.state.save(0, StateFlags.PARTIAL_ONLY)
        expected = next_logits(context)
        context.memory.clear()
        context.state.restore(saved, 0, StateFlags.PARTIAL_ONLY)
        np.testing.assert_allclose(next_logits(context), expected, atol=1e-5)


@pytest.mark.parametrize("seq_id", [None, 0])
def test_files_carry_the_tokens(
    tmp_path: Path, model: Model, filled: Context, expected: np.ndarray, seq_id: int | None
) -> None:
    path = tmp_path / "state.bin"
    filled.state.save_file(path, PROMPT, seq_id)
    with Context(model, filled.params) as other:
        assert other.state.load_file(path, seq_id) == PROMPT
        np.testing.assert_array_equal(next_logits(other), expected)


@pytest.mark.parametrize("seq_id", [None, 2])
def test_a_file_without_tokens(tmp_path: Path, context: Context, seq_id: int | None) -> None:
    context.decode(Batch.of(PROMPT, seq_id=2))
    context.state.save_file(tmp_path / "s", (), seq_id)
    context.memory.clear()
    assert context.state.load_file(tmp_path / "s", seq_id) == []
    assert context.memory.seq_pos_max(2) == 5


@pytest.mark.parametrize("keep", [0, 8, 15, 20, 100, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, filled: Context, keep: int) -> None:
    path = tmp_path / "s"
    filled.state.save_file(path, PROMPT)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(LlamaError):
        filled.state.load_file(path)


def test_a_file_with_a_hostile_count_is_refused(tmp_path: Path, filled: Context) -> None:
    path = tmp_path / "s"
    filled.state.save_file(path, PROMPT)
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, 8, 2**32 - 1)
    path.write_bytes(content)
    with pytest.raises(LlamaError, match="damaged"):
        filled.state.load_file(path)


def test_a_file_that_is_something_else_is_refused(filled: Context, tiny_gguf: Path) -> None:
    with pytest.raises(LlamaError, match="no saved state"):
        filled.state.load_file(tiny_gguf)


def test_files_that_are_not_there_or_cannot_be(tmp_path: Path, filled: Context) -> None:
    with pytest.raises(FileNotFoundError):
        filled.state.load_file(tmp_path / "none")
    with pytest.raises(FileNotFoundError):
        filled.state.save_file(tmp_path / "no" / "directory")


@pytest.mark.parametrize("seq_id", [None, 0])
@pytest.mark.parametrize("keep", [0, 1, 16, 17, 20, -1])
def test_a_truncated_state_is_refused_before_it_does_harm(
    filled: Context, seq_id: int | None, keep: int
) -> None:
    saved = filled.state.save(seq_id)
    with pytest.raises(LlamaError):
        filled.state.restore(saved[:keep], seq_id)
    assert filled.memory.seq_pos_max(0) == 5


def resigned(saved: bytearray) -> bytearray:
    """Return a changed state with a checksum that is right again."""
    struct.pack_into("<I", saved, 12, zlib.crc32(saved[16:]))
    return saved


@pytest.mark.parametrize("seq_id", [None, 0])
def test_a_state_that_llama_cpp_refuses_leaves_nothing(filled: Context, seq_id: int | None) -> None:
    saved = resigned(filled.state.save(seq_id)[:-50])
    with pytest.raises(LlamaError) as caught:
        filled.state.restore(saved, seq_id)
    assert caught.value.log
    assert filled.memory.seq_pos_max(0) is None
    filled.decode(Batch.of(PROMPT))
    assert np.isfinite(filled.logits()).all()


def test_an_on_device_state_with_bad_magic_is_refused(filled: Context) -> None:
    """llama_state_seq_set_data_ext throws through the C API there."""
    saved = filled.state.save(0, StateFlags.ON_DEVICE)
    saved[16:20] = b"what"
    with pytest.raises(LlamaError, match="magic"):
        filled.state.restore(resigned(saved), 0, StateFlags.ON_DEVICE)


@pytest.mark.parametrize("seq_id", [None, 0])
def test_a_state_of_another_model_is_refused(filled: Context, tiny_of, seq_id: int | None) -> None:
    with Model.load(tiny_of(n_layer=3)) as other, Context(other, filled.params) as context:
        context.decode(Batch.of(PROMPT))
        saved = context.state.save(seq_id)
    with pytest.raises(LlamaError, match="another model"):
        filled.state.restore(saved, seq_id)


def test_a_state_of_other_kv_types_is_refused(model: Model, filled: Context) -> None:
    params = dataclasses.replace(filled.params, type_k="q8_0")
    with Context(model, params) as other, pytest.raises(LlamaError, match="KV types"):
        other.state.restore(filled.state.save())


@pytest.mark.parametrize("seq_id", [None, 0])
def test_a_state_with_flipped_bits_is_refused(filled: Context, seq_id: int | None) -> None:
    saved = filled.state.save(seq_id)
    rng = np.random.default_rng(3)
    for _ in range(200):
        broken = bytearray(saved)
        broken[int(rng.integers(0, len(broken)))] ^= 1 << int(rng.integers(0, 8))
        with pytest.raises(LlamaError):
            filled.state.restore(broken, seq_id)
    assert filled.memory.seq_pos_max(0) == 5


@pytest.mark.parametrize("seq_id", [-1, 256])
def test_sequence_ids_are_checked(filled: Context, seq_id: int) -> None:
    for use in (filled.state.size, filled.state.save, lambda seq: filled.state.restore(b"", seq)):
        with pytest.raises(InvalidRequestError):
            use(seq_id)


def test_sequences_without_a_stream_are_refused(model: Model) -> None:
    with Context(model, ContextParams(n_ctx=512, n_seq_max=2)) as context:
        context.decode(Batch.of(PROMPT))
        saved = context.state.save(0)
        context.state.restore(saved, 1)
        assert context.memory.seq_pos_max(1) == 5
        with pytest.raises(InvalidRequestError, match="no stream"):
            context.state.restore(saved, 2)
