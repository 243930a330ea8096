"""Saving a context's memory and restoring it, whole or one sequence; as bytes or files."""

from __future__ import annotations

import os
import struct
import zlib
from array import array
from enum import IntFlag
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from shimmy.errors import LlamaError
from shimmy.llama import _checks
from shimmy.llama._ffi import errors_since, ffi, lib, log_mark, raise_fault

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from shimmy.llama.context import Context

# magic, fingerprint of model and context, checksum of what follows
_HEADER = struct.Struct("<8sII")
_MAGIC = b"shmstat1"
# magic, number of tokens, checksum of the tokens that follow; then a state
_FILE_HEADER = struct.Struct("<8sII")
_FILE_MAGIC = b"shmfile1"


class StateFlags(IntFlag):
    """What part of a sequence's state, and where it is kept."""

    NONE = 0
    PARTIAL_ONLY = lib.LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY
    """Only what cannot be cut back: the SWA window, the recurrent state."""
    ON_DEVICE = lib.LLAMA_STATE_SEQ_FLAGS_ON_DEVICE
    """The tensors stay on the device: valid until the sequence is saved so again."""


class State:
    """Saves and restores; `seq_id` None is the whole context. Thread: the context's owner.

    llama.cpp trusts the sizes in a state (a damaged count makes it allocate gigabytes), so a header
    with a checksum and a fingerprint of model and context goes before it. Logits are not saved.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    def size(self, seq_id: int | None = None, flags: StateFlags = StateFlags.NONE) -> int:
        """Return the bytes that `save` will return now."""
        return self._native_size(seq_id, flags) + _HEADER.size

    def save(self, seq_id: int | None = None, flags: StateFlags = StateFlags.NONE) -> bytearray:
        """Return the state as bytes."""
        return self.seal(self.copy_out(seq_id, flags))

    def restore(
        self,
        saved: bytes | bytearray | memoryview,
        seq_id: int | None = None,
        flags: StateFlags = StateFlags.NONE,
    ) -> None:
        """Replace the context's memory, or one sequence's, by what `save` returned.

        Raises `LlamaError` for bytes that are damaged or do not fit. When llama.cpp is the one that
        refuses them, what was to be replaced is empty.
        """
        self._seq(seq_id)
        self.copy_in(self.unseal(saved), seq_id, flags)

    def copy_out(
        self, seq_id: int | None = None, flags: StateFlags = StateFlags.NONE
    ) -> NDArray[np.uint8]:
        """Return the bare state, without what tells whether it is whole: `seal` adds that."""
        import numpy as np

        size = self._native_size(seq_id, flags)
        # not a bytearray, which would be zeroed first
        data = np.empty(size, np.uint8)
        mark = log_mark()
        with ffi.from_buffer("uint8_t[]", data, require_writable=True) as target:
            n = lib.shm_state_get(self._context.ptr, target, size, self._seq(seq_id), flags)
        if n == 0:
            _fail("could not save the state", mark)
        return data[:n]

    def copy_in(
        self,
        data: NDArray[np.uint8] | memoryview,
        seq_id: int | None = None,
        flags: StateFlags = StateFlags.NONE,
    ) -> None:
        """Restore a bare state. The caller vouches for the bytes: damaged ones end the process."""
        mark = log_mark()
        with ffi.from_buffer("uint8_t[]", data) as source:
            n = lib.shm_state_set(self._context.ptr, source, len(source), self._seq(seq_id), flags)
        if n == 0:
            try:
                _fail("could not restore the state", mark)
            finally:
                self._forget(seq_id)

    def seal(self, data: NDArray[np.uint8]) -> bytearray:
        """Put the header before a bare state. Thread: any."""
        header = _HEADER.pack(_MAGIC, self.fingerprint(), zlib.crc32(data.data))
        return bytearray(header) + data.data

    def unseal(self, saved: bytes | bytearray | memoryview) -> memoryview:
        """Return the bare state behind a header; raises `LlamaError`. Thread: any."""
        view = memoryview(saved)
        self._check(view)
        return view[_HEADER.size :]

    def save_file(
        self, path: str | os.PathLike[str], tokens: Sequence[int] = (), seq_id: int | None = None
    ) -> None:
        """Write the state and the tokens that led to it; raises OSError where it cannot."""
        write_file(path, tokens, self.save(seq_id))

    def load_file(self, path: str | os.PathLike[str], seq_id: int | None = None) -> list[int]:
        """Restore a file of `save_file` and return its tokens; raises as `restore`, or OSError."""
        tokens, saved = read_file(path)
        self.restore(saved, seq_id)
        return tokens

    def _native_size(self, seq_id: int | None, flags: StateFlags) -> int:
        mark = log_mark()
        size = int(lib.shm_state_size(self._context.ptr, self._seq(seq_id), flags))
        if size == 0:
            _fail("could not size the state", mark)
        return size

    def _check(self, saved: memoryview) -> None:
        if len(saved) <= _HEADER.size or saved[: len(_MAGIC)] != _MAGIC:
            raise LlamaError("these bytes are no saved state")
        _, fingerprint, checksum = _HEADER.unpack_from(saved)
        if fingerprint != self.fingerprint():
            raise LlamaError(
                "the state is of another model, or of a context with other KV types or RoPE settings"
            )
        if zlib.crc32(saved[_HEADER.size :]) != checksum:
            raise LlamaError("the state is damaged: its checksum differs")

    def fingerprint(self) -> int:
        """Return a number that contexts have in common whose states fit each other. Thread: any."""
        model, params = self._context.model, self._context.params
        identity = (
            model.meta("general.architecture"),
            model.meta("general.name"),
            model.n_params,
            model.size,
            model.n_layer,
            model.n_embd,
            params.type_k,
            params.type_v,
            params.rope_scaling_type,
            params.rope_freq_base,
            params.rope_freq_scale,
            params.yarn_ext_factor,
            params.yarn_attn_factor,
            params.yarn_beta_fast,
            params.yarn_beta_slow,
            params.yarn_orig_ctx,
        )
        return zlib.crc32(repr(identity).encode())

    def _seq(self, seq_id: int | None) -> int:
        return -1 if seq_id is None else self._context.memory.sequence("seq_id", seq_id)

    def _forget(self, seq_id: int | None) -> None:
        """Drop what a failed restore may have left half done."""
        if seq_id is None:
            self._context.memory.clear()
        else:
            self._context.memory.seq_rm(seq_id)


def write_file(
    path: str | os.PathLike[str], tokens: Sequence[int], saved: bytes | bytearray
) -> int:
    """Write what `save` returned, and the tokens that led to it; return the bytes written.

    The file is there whole or not at all. Thread: any.
    """
    checked = [_checks.integer("tokens", token, 0, _checks.INT32_MAX) for token in tokens]
    listed = array("i", checked).tobytes()
    header = _FILE_HEADER.pack(_FILE_MAGIC, len(checked), zlib.crc32(listed))
    part = Path(f"{os.fspath(path)}.part")
    try:
        with part.open("wb") as file:
            file.write(header)
            file.write(listed)
            file.write(saved)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return len(header) + len(listed) + len(saved)


def read_file(path: str | os.PathLike[str]) -> tuple[list[int], memoryview]:
    """Return the tokens and the state in a file; raises `LlamaError` or OSError. Thread: any."""
    content = memoryview(Path(path).read_bytes())
    if len(content) < _FILE_HEADER.size:
        raise LlamaError(f"{path} is no saved state")
    magic, n_tokens, checksum = _FILE_HEADER.unpack_from(content)
    end = _FILE_HEADER.size + 4 * n_tokens
    listed = content[_FILE_HEADER.size : end]
    if magic != _FILE_MAGIC:
        raise LlamaError(f"{path} is no saved state")
    if len(content) < end or zlib.crc32(listed) != checksum:
        raise LlamaError(f"the state in {path} is damaged")
    return listed.cast("i").tolist(), content[end:]


def _fail(what: str, mark: int) -> NoReturn:
    if lib.shm_last_fault() != lib.SHM_FAULT_NONE:
        raise_fault(what, mark=mark)
    raise LlamaError(what, log=errors_since(mark))
