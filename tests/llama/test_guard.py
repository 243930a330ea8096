"""The guard itself: native asserts and exceptions behind the Python checks become typed errors too."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from shimmy.errors import (
    ContextLengthError,
    DecodeError,
    InvalidRequestError,
    LlamaError,
    NativeAbortError,
)
from shimmy.llama import Attention, Batch, Context, ContextParams, DecodeStatus, Model
from shimmy.llama._ffi import check, ffi, lib, raise_fault
from shimmy.llama.context_params import native_context_params


def aborted(what: str) -> str:
    """Return the message of this thread's last fault, which must be an abort."""
    with pytest.raises(NativeAbortError) as caught:
        raise_fault(what)
    return str(caught.value)


# --- native.md 7.1, row by row: refused in Python, and caught by the guard when something slips through


@pytest.mark.parametrize("field", ["n_batch", "n_outputs_max"])
def test_context_with_fewer_than_n_seq_max(model: Model, field: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        Context(model, ContextParams(n_ctx=256, n_seq_max=8, **{field: 4}))
    assert caught.value.param == field

    struct = native_context_params(ContextParams(n_ctx=256, n_seq_max=8), model)
    setattr(struct, field, 4)
    assert lib.shm_context_new(model.ptr, struct, ffi.NULL) == ffi.NULL
    assert "GGML_ASSERT(n_outputs_max <= cparams.n_outputs_max)" in aborted("context")


def test_more_tokens_than_n_batch(context: Context) -> None:
    big = Batch.of([1] * (context.n_batch + 1))
    with pytest.raises(InvalidRequestError, match="n_batch") as caught:
        context.decode(big)
    assert caught.value.param == "n_tokens"

    assert lib.shm_decode(context.ptr, big.ptr) == lib.SHM_FAULT
    assert "n_tokens_all <= cparams.n_batch" in aborted("decode")
    assert context.decode(Batch.of([1, 2])) is DecodeStatus.OK, "asserted before anything ran"


def test_more_non_causal_tokens_than_n_ubatch(model: Model) -> None:
    params = ContextParams(n_ctx=256, n_batch=64, n_ubatch=16, attention_type=Attention.NON_CAUSAL)
    with Context(model, params) as context:
        big = Batch.of([1] * 17)
        with pytest.raises(InvalidRequestError, match="n_ubatch"):
            context.decode(big)
        assert lib.shm_decode(context.ptr, big.ptr) == lib.SHM_FAULT
        assert "non-causal attention requires n_ubatch" in aborted("decode")


def test_more_encoder_tokens_than_n_ubatch(tiny_of) -> None:
    params = ContextParams(n_ctx=256, n_batch=64, n_ubatch=16, embeddings=True)
    with Model.load(tiny_of(arch="bert")) as model, Context(model, params) as context:
        big = Batch.of([1] * 17)
        for evaluate in (context.encode, context.decode):
            with pytest.raises(InvalidRequestError, match="n_ubatch"):
                evaluate(big)
        assert lib.shm_encode(context.ptr, big.ptr) == lib.SHM_FAULT
        assert "encoder requires n_ubatch" in aborted("encode")


@pytest.mark.parametrize("seq", [-1, -2, 256, 2**31 - 1])
def test_sequence_ids_outside_of_the_memory(context: Context, seq: int) -> None:
    memory = context.memory
    native = lib.llama_get_memory(context.ptr)
    for use, raw in (
        (lambda: memory.seq_rm(seq), lambda: lib.shm_memory_seq_rm(native, seq, 0, -1)),
        (lambda: memory.seq_cp(seq, 0), lambda: lib.shm_memory_seq_cp(native, seq, 0, 0, -1)),
        (lambda: memory.seq_cp(0, seq), lambda: lib.shm_memory_seq_cp(native, 0, seq, 0, -1)),
        (lambda: memory.seq_keep(seq), lambda: lib.shm_memory_seq_keep(native, seq)),
        (lambda: memory.seq_add(seq, 1), lambda: lib.shm_memory_seq_add(native, seq, 0, -1, 1)),
        (lambda: memory.seq_div(seq, 2), lambda: lib.shm_memory_seq_div(native, seq, 0, -1, 2)),
        (lambda: memory.seq_pos_min(seq), lambda: lib.shm_memory_seq_pos_min(native, seq)),
        (lambda: memory.seq_pos_max(seq), lambda: lib.shm_memory_seq_pos_max(native, seq)),
    ):
        with pytest.raises(InvalidRequestError):
            use()
        if raw() == lib.SHM_FAULT:
            with pytest.raises(InvalidRequestError, match=r"outside 0\.\.255"):
                raise_fault("memory")
        else:
            assert seq == -1, "llama.cpp's word for all sequences, in seq_rm alone"


def test_seq_add_and_seq_div_on_m_rope(tiny_of) -> None:
    with (
        Model.load(tiny_of(arch="qwen2vl")) as model,
        Context(model, ContextParams(n_ctx=256)) as context,
    ):
        context.decode(Batch.of([1, 2, 3]))
        assert not context.memory.can_shift
        with pytest.raises(InvalidRequestError, match="cannot shift"):
            context.memory.seq_add(0, 1)
        with pytest.raises(InvalidRequestError, match="cannot shift"):
            context.memory.seq_div(0, 2)


def test_partial_seq_cp_across_streams(model: Model) -> None:
    with Context(model, ContextParams(n_ctx=512, n_seq_max=2)) as context:
        context.decode(Batch.of([1, 2, 3, 4]))
        with pytest.raises(InvalidRequestError, match="whole sequence"):
            context.memory.seq_cp(0, 1, 0, 2)
        native = lib.llama_get_memory(context.ptr)
        assert lib.shm_memory_seq_cp(native, 0, 1, 0, 2) == lib.SHM_FAULT
        assert "only supported for full KV buffers" in aborted("seq_cp")


@pytest.mark.parametrize(
    "tokens", [[380], [1, 2, 10**6]], ids=["one past the end", "far past the end"]
)
def test_tokens_outside_of_the_vocabulary(context: Context, tokens: list[int]) -> None:
    batch = Batch.of(tokens)
    with pytest.raises(InvalidRequestError, match="outside the vocabulary") as caught:
        context.decode(batch)
    assert caught.value.param == "token"
    assert lib.shm_decode(context.ptr, batch.ptr) == -1, "llama.cpp sees it too"


def test_positions_that_do_not_continue(context: Context) -> None:
    context.decode(Batch.of([1, 2, 3]))
    for pos in (2, 7):
        with pytest.raises(InvalidRequestError, match="refused the batch") as caught:
            context.decode(Batch.of([4], pos=pos))
        assert caught.value.param == "batch"
        assert "pos" in str(caught.value), "with llama.cpp's own reason"
    assert context.decode(Batch.of([4], pos=3)) is DecodeStatus.OK


def test_an_empty_batch(context: Context) -> None:
    with pytest.raises(InvalidRequestError):
        context.decode(Batch(4))
    assert lib.shm_decode(context.ptr, Batch(4).ptr) == -1


def test_more_sequences_than_llama_cpp_can(model: Model) -> None:
    with pytest.raises(InvalidRequestError):
        Context(model, ContextParams(n_seq_max=257))
    struct = native_context_params(ContextParams(n_ctx=256), model)
    struct.n_seq_max = 257
    assert lib.shm_context_new(model.ptr, struct, ffi.NULL) == ffi.NULL
    with pytest.raises(LlamaError, match="could not create"):
        raise_fault("context")


@pytest.mark.parametrize("token", [-1, 380, 2**31 - 1])
def test_token_functions_that_throw_out_of_range(model: Model, token: int) -> None:
    vocab, buffer = model.vocab.ptr, ffi.new("char[]", 8)
    for code in (
        lib.shm_token_to_piece(vocab, token, buffer, 8, 0, False),
        lib.shm_token_attr(vocab, token),
        lib.shm_detokenize(vocab, [token], 1, buffer, 8, False, False),
    ):
        assert code == lib.SHM_FAULT
        with pytest.raises(InvalidRequestError, match="outside the vocabulary of 380"):
            check(code, "token")


def test_bad_regular_expressions() -> None:
    assert lib.shm_regex_check(b"a(") == lib.SHM_FAULT
    with pytest.raises(InvalidRequestError):
        raise_fault("regex")
    assert lib.shm_regex_check(b"a(b)") == 0


# --- how the guard behaves


def test_a_context_that_failed_in_a_decode_is_not_used_again(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = Batch.of([1] * (context.n_batch + 1))
    with monkeypatch.context() as patch:
        patch.setattr(context, "_check_batch", lambda *_, **__: None)
        with pytest.raises(NativeAbortError, match="the decode failed") as caught:
            context.decode(big)
    assert any("GGML_ASSERT" in line for line in caught.value.log)
    with pytest.raises(DecodeError, match="must be made anew"):
        context.decode(Batch.of([1]))


def test_faults_belong_to_their_thread(context: Context) -> None:
    assert lib.shm_regex_check(b"a(") == lib.SHM_FAULT
    other: list[int] = []
    thread = threading.Thread(target=lambda: other.append(lib.shm_last_fault()))
    thread.start()
    thread.join()
    assert other == [lib.SHM_FAULT_NONE]
    assert lib.shm_last_fault() == lib.SHM_FAULT_INVALID_ARGUMENT


def test_the_next_call_clears_the_fault() -> None:
    assert lib.shm_regex_check(b"a(") == lib.SHM_FAULT
    assert lib.shm_regex_check(b"a") == 0
    assert lib.shm_last_fault() == lib.SHM_FAULT_NONE
    assert ffi.string(lib.shm_last_error()) == b""


def test_many_aborts_leak_no_context(model: Model) -> None:
    struct = native_context_params(ContextParams(n_ctx=256, n_seq_max=8), model)
    struct.n_batch = 4
    for _ in range(50):
        assert lib.shm_context_new(model.ptr, struct, ffi.NULL) == ffi.NULL
    with Context(model, ContextParams(n_ctx=256)) as context:
        assert context.decode(Batch.of([1])) is DecodeStatus.OK


def test_an_abort_outside_of_the_guard_ends_the_process_with_its_message(tiny_gguf: Path) -> None:
    """The direct functions have checked arguments; if one aborts, the worker dies and says why."""
    script = f"""
from shimmy.llama import *
from shimmy.llama._ffi import lib
model = Model.load({str(tiny_gguf)!r})
lib.ggml_backend_dev_get(99)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == -6
    assert "llama.cpp aborts: " in done.stderr
    assert "index < ggml_backend_dev_count()" in done.stderr


def test_errors_keep_their_place_in_the_tree() -> None:
    assert issubclass(ContextLengthError, InvalidRequestError)
    assert issubclass(NativeAbortError, LlamaError)
