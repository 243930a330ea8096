"""The layers of a context that keep only a sliding window of each sequence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shimmy.llama._ffi import CData, check, lib

if TYPE_CHECKING:
    from shimmy.llama.context import Context


class Window:
    """Their cells, apart from those of the layers that keep all. Thread: the context's owner.

    Sequences are cut, copied and removed in all layers at once, by `Memory`. Here alone some lose
    what they need to go on: the caller restores it, with `StateFlags.PARTIAL_ONLY`.
    """

    def __init__(self, context: Context, n_cells: int) -> None:
        self._context = context
        self.n_cells = n_cells

    def reaches(self, seq_id: int, n_tokens: int) -> bool:
        """Whether a sequence can go on behind its first `n_tokens`: all that is seen is there."""
        seq = self._context.memory.sequence("seq_id", seq_id)
        model = self._context.model
        return bool(lib.shm_window_reaches(model.ptr, self._ptr, seq, n_tokens))

    def holds(self, seq_id: int) -> bool:
        """Whether anything of a sequence is there."""
        return self._context.memory.seq_pos_min(seq_id) is not None

    def remove(self, seq_id: int) -> None:
        """Drop a sequence from these layers."""
        seq = self._context.memory.sequence("seq_id", seq_id)
        check(lib.shm_window_remove(self._ptr, seq), "remove")

    def trim(self) -> int:
        """Drop what no sequence sees any more from where it goes on; return how many had any."""
        return check(lib.shm_window_trim(self._context.model.ptr, self._ptr), "trim")

    @property
    def _ptr(self) -> CData:
        return lib.llama_get_memory(self._context.ptr)


def window_of(context: Context) -> Window | None:
    """Return the window of a context, None where all layers keep all, or its memory is recurrent."""
    n_cells = check(lib.shm_window_cells(lib.llama_get_memory(context.ptr)), "window")
    return Window(context, n_cells) if n_cells else None
