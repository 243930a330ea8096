"""Saving a context's memory and restoring it, whole or one sequence; as bytes or files."""

from __future__ import annotations

import struct
import zlib
from enum import IntFlag
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from shimmy.errors import LlamaError
from shimmy.llama import _checks
from shimmy.llama._ffi import errors_since, ffi, lib, log_mark, raise_fault

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from shimmy.llama.context import Context

# magic, fingerprint of model and KV types, checksum of what follows
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
    with a checksum and a fingerprint of model and KV types goes before it. Logits are not saved.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    def size(self, seq_id: int | None = None, flags: StateFlags = StateFlags.NONE) -> int:
        """Return the bytes that `save` will return now."""
        return self._native_size(seq_id, flags) + _HEADER.size

    def save(self, seq_id: int | None = None, flags: StateFlags = StateFlags.NONE) -> bytearray:
        """Return the state as bytes."""
        size = self._native_size(seq_id, flags)
        saved = bytearray(_HEADER.size + size)
        mark = log_mark()
        with ffi.from_buffer("uint8_t[]", saved, require_writable=True) as target:
            body = target + _HEADER.size
            n = lib.shm_state_get(self._context.ptr, body, size, self._seq(seq_id), flags)
        if n == 0:
            _fail("could not save the state", mark)
        del saved[_HEADER.size + n :]
        checksum = zlib.crc32(memoryview(saved)[_HEADER.size :])
        _HEADER.pack_into(saved, 0, _MAGIC, self._fingerprint(), checksum)
        return saved

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
        seq, ptr = self._seq(seq_id), self._context.ptr
        self._check(memoryview(saved))
        mark = log_mark()
        with ffi.from_buffer("uint8_t[]", saved) as source:
            body = source + _HEADER.size
            n = lib.shm_state_set(ptr, body, len(source) - _HEADER.size, seq, flags)
        if n == 0:
            try:
                _fail("could not restore the state", mark)
            finally:
                self._forget(seq_id)

    def save_file(
        self, path: str | os.PathLike[str], tokens: Sequence[int] = (), seq_id: int | None = None
    ) -> None:
        """Write the state and the tokens that led to it; raises OSError where it cannot."""
        checked = [_checks.integer("tokens", token, 0, _checks.INT32_MAX) for token in tokens]
        listed = np.array(checked, np.int32).tobytes()
        saved = self.save(seq_id)
        with Path(path).open("wb") as file:
            file.write(_FILE_HEADER.pack(_FILE_MAGIC, len(checked), zlib.crc32(listed)))
            file.write(listed)
            file.write(saved)

    def load_file(self, path: str | os.PathLike[str], seq_id: int | None = None) -> list[int]:
        """Restore a file of `save_file` and return its tokens; raises as `restore`, or OSError."""
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
        self.restore(content[end:], seq_id)
        return [int(token) for token in np.frombuffer(listed, np.int32)]

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
        if fingerprint != self._fingerprint():
            raise LlamaError("the state is of another model, or of a context with other KV types")
        if zlib.crc32(saved[_HEADER.size :]) != checksum:
            raise LlamaError("the state is damaged: its checksum differs")

    def _fingerprint(self) -> int:
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


def _fail(what: str, mark: int) -> NoReturn:
    if lib.shm_last_fault() != lib.SHM_FAULT_NONE:
        raise_fault(what, mark=mark)
    raise LlamaError(what, log=errors_since(mark))
