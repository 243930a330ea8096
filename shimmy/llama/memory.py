"""A context's memory: the KV cells or recurrent states of its sequences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shimmy.errors import InvalidRequestError
from shimmy.llama import _checks
from shimmy.llama._ffi import CData, check, ffi, lib

if TYPE_CHECKING:
    from shimmy.llama.context import Context


class Memory:
    """Operations on sequences, over positions p0 to p1 (excluded; None: from the start, to the end).

    Sequence ids are 0..255 in a unified cache, where those from `n_seq_max` on can hold prefixes;
    otherwise each sequence has a stream of its own, and there are `n_seq_max`.
    Thread: the context's owner.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    def clear(self, *, data: bool = False) -> None:
        """Forget everything; with `data` zero the buffers too."""
        check(lib.shm_memory_clear(self._ptr, data), "clear")

    def seq_rm(self, seq_id: int | None, p0: int | None = None, p1: int | None = None) -> bool:
        """Remove a sequence's cells (None: of all sequences).

        False where the memory cannot remove a part: recurrent and hybrid models.
        """
        seq = -1 if seq_id is None else self.sequence("seq_id", seq_id)
        return check(lib.shm_memory_seq_rm(self._ptr, seq, *_span(p0, p1)), "seq_rm") == 1

    def seq_cp(self, src: int, dst: int, p0: int | None = None, p1: int | None = None) -> None:
        """Share cells of `src` with `dst`; metadata alone in a unified cache.

        Where every sequence has its own stream, only a whole sequence can be copied.
        """
        self.sequence("src", src)
        self.sequence("dst", dst)
        if self._own_streams and src != dst and (p0 or p1 is not None):
            raise InvalidRequestError(
                "without kv_unified only a whole sequence can be copied", param="p0"
            )
        check(lib.shm_memory_seq_cp(self._ptr, src, dst, *_span(p0, p1)), "seq_cp")

    def seq_keep(self, seq_id: int) -> None:
        """Remove all other sequences."""
        check(lib.shm_memory_seq_keep(self._ptr, self.sequence("seq_id", seq_id)), "seq_keep")

    def seq_add(
        self, seq_id: int, delta: int, p0: int | None = None, p1: int | None = None
    ) -> None:
        """Add `delta` to positions; the cells are rotated in the next decode."""
        self.sequence("seq_id", seq_id)
        _checks.integer("delta", delta, -_checks.INT32_MAX, _checks.INT32_MAX)
        check(lib.shm_memory_seq_add(self._ptr, seq_id, *_span(p0, p1), delta), "seq_add")

    def seq_div(
        self, seq_id: int, divisor: int, p0: int | None = None, p1: int | None = None
    ) -> None:
        """Divide positions by `divisor`."""
        self.sequence("seq_id", seq_id)
        _checks.integer("divisor", divisor, 1, _checks.INT32_MAX)
        check(lib.shm_memory_seq_div(self._ptr, seq_id, *_span(p0, p1), divisor), "seq_div")

    def seq_pos_min(self, seq_id: int) -> int | None:
        """Return a sequence's smallest position, None when it is empty; above 0 with SWA."""
        seq = self.sequence("seq_id", seq_id)
        return _position(check(lib.shm_memory_seq_pos_min(self._ptr, seq), "seq_pos_min"))

    def seq_pos_max(self, seq_id: int) -> int | None:
        """Return a sequence's largest position, None when it is empty."""
        seq = self.sequence("seq_id", seq_id)
        return _position(check(lib.shm_memory_seq_pos_max(self._ptr, seq), "seq_pos_max"))

    def last(self, seq_id: int) -> int | None:
        """Return a sequence's largest position in the layers that keep all of it, None: empty."""
        seq = self.sequence("seq_id", seq_id)
        return _position(check(lib.shm_memory_last(self._ptr, seq), "last"))

    @property
    def can_shift(self) -> bool:
        """Whether `seq_add` and `seq_div` are possible."""
        ptr = self._ptr
        return ptr != ffi.NULL and bool(lib.llama_memory_can_shift(ptr))

    @property
    def _ptr(self) -> CData:
        # NULL for models without memory, which the shim reports
        return lib.llama_get_memory(self._context.ptr)

    @property
    def _own_streams(self) -> bool:
        return not self._context.kv_unified and self._context.n_seq_max > 1

    def sequence(self, param: str, seq: int) -> int:
        """Return `seq` if this memory can hold it, else raise an error that names `param`."""
        _checks.sequence(param, seq)
        if self._own_streams and seq >= self._context.n_seq_max:
            raise InvalidRequestError(
                f"{param} {seq} has no stream of its own: n_seq_max is {self._context.n_seq_max}, "
                "and kv_unified is off",
                param=param,
            )
        return seq


def _span(p0: int | None, p1: int | None) -> tuple[int, int]:
    """Return llama.cpp's form of a span, where negative numbers stand for the ends."""
    low = 0 if p0 is None else _checks.integer("p0", p0, 0, _checks.INT32_MAX)
    high = -1 if p1 is None else _checks.integer("p1", p1, 0, _checks.INT32_MAX)
    return low, high


def _position(value: int) -> int | None:
    return None if value < 0 else value
