"""What sequences hold in a context, as bytes and back. Thread: the context's owner."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from shimmy.errors import LlamaError
from shimmy.llama.state import StateFlags

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from shimmy.llama.context import Context
    from shimmy.llama.window import Window

SCRATCH = 0
"""The sequence that parts of others go through, where one pool of cells serves all: llama.cpp names
the sequences of a state only if their ids are below n_seq_max."""


class Cells:
    """Parts of sequences go through `SCRATCH`; where that is no row's, sequences move as a whole."""

    def __init__(self, context: Context, apart: Window | None = None) -> None:
        """Parts are without what is in the layers of `apart`, which may keep less of a sequence."""
        self._context = context
        self._apart = apart

    def copy_out(self, seq_id: int, begin: int, end: int) -> NDArray[np.uint8]:
        """Return the state of the cells at positions `begin` to `end`, excluded."""
        memory = self._context.memory
        memory.seq_cp(seq_id, SCRATCH, begin, end)
        try:
            if self._apart is not None:
                self._apart.remove(SCRATCH)
            return self._context.state.copy_out(SCRATCH)
        finally:
            memory.seq_rm(SCRATCH)

    def copy_in(
        self, seq_id: int, data: NDArray[np.uint8] | memoryview, begin: int, end: int
    ) -> None:
        """Give a sequence the cells at `begin` to `end` of what `copy_out` returned.

        Raises `LlamaError` where there are not enough free cells.
        """
        memory = self._context.memory
        self._context.state.copy_in(data, SCRATCH)
        memory.seq_cp(SCRATCH, seq_id, begin, end)
        memory.seq_rm(SCRATCH)
        if memory.last(seq_id) != end - 1:
            raise LlamaError("a restored block does not end where it should")

    def size(self, seq_id: int) -> int:
        """Return the bytes of a whole sequence's state."""
        return self._context.state.size(seq_id)

    def save(self, seq_id: int) -> NDArray[np.uint8]:
        """Return the state of a whole sequence, of one with all its cells."""
        return self._context.state.copy_out(seq_id)

    def restore(
        self,
        seq_id: int,
        data: NDArray[np.uint8] | memoryview,
        n_tokens: int,
        *,
        with_media: bool = False,
    ) -> None:
        """Make a sequence what `save` returned; raises `LlamaError`, and leaves it empty then.

        `with_media`: some of the tokens are a medium's, which may take fewer positions than tokens.
        """
        self._context.state.copy_in(data, seq_id)
        last = self._context.memory.seq_pos_max(seq_id)
        if last is None or last >= n_tokens or (last < n_tokens - 1 and not with_media):
            self.remove(seq_id)
            raise LlamaError(f"the state is not that of {n_tokens} tokens")

    def remove(self, seq_id: int) -> None:
        """Drop a sequence's cells."""
        self._context.memory.seq_rm(seq_id)


class WindowCells:
    """What sequences hold in the layers of a sliding window alone."""

    def __init__(self, context: Context, window: Window, *, scratch: bool) -> None:
        """`scratch`: through `SCRATCH`."""
        self._context = context
        self._window = window
        self._scratch = scratch

    def size(self, seq_id: int) -> int:
        """Return the bytes that `save` will return now."""
        with self._named(seq_id) as named:
            return self._context.state.size(named, StateFlags.PARTIAL_ONLY)

    def save(self, seq_id: int) -> NDArray[np.uint8]:
        """Return what the next token of a sequence sees there."""
        with self._named(seq_id) as named:
            return self._context.state.copy_out(named, StateFlags.PARTIAL_ONLY)

    def restore(
        self,
        seq_id: int,
        data: NDArray[np.uint8] | memoryview,
        n_tokens: int,
        *,
        with_media: bool = False,  # noqa: ARG002  no model has both, windows and positions in two dimensions
    ) -> None:
        """Let a sequence of `n_tokens` see that again; raises `LlamaError`, and it sees nothing then.

        Without a scratch sequence its other cells are lost too, if there are not enough free ones.
        """
        state, memory = self._context.state, self._context.memory
        self._window.remove(seq_id)
        if self._scratch:
            state.copy_in(data, SCRATCH, StateFlags.PARTIAL_ONLY)
            memory.seq_cp(SCRATCH, seq_id, 0, n_tokens)
            memory.seq_rm(SCRATCH)
        else:
            state.copy_in(data, seq_id, StateFlags.PARTIAL_ONLY)
        if not self._window.reaches(seq_id, n_tokens):
            self._window.remove(seq_id)
            raise LlamaError(f"the window is not that of {n_tokens} tokens")

    @contextmanager
    def _named(self, seq_id: int) -> Iterator[int]:
        """Give a sequence an id that llama.cpp saves."""
        if not self._scratch:
            yield seq_id
            return
        memory = self._context.memory
        memory.seq_cp(seq_id, SCRATCH)
        try:
            yield SCRATCH
        finally:
            memory.seq_rm(SCRATCH)
