"""What sequences hold in a context, as bytes and back. Thread: the context's owner."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shimmy.errors import LlamaError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from shimmy.llama.context import Context

SCRATCH = 0
"""The sequence that parts of others go through, where one pool of cells serves all: llama.cpp names
the sequences of a state only if their ids are below n_seq_max."""


class Cells:
    """Parts of sequences go through `SCRATCH`, where there is one; no row and no prompt uses it."""

    def __init__(self, context: Context, *, scratch: bool) -> None:
        """Without `scratch` sequences can be moved as a whole only."""
        self._context = context
        self._scratch = scratch

    def copy_out(self, seq_id: int, begin: int, end: int) -> NDArray[np.uint8]:
        """Return the state of the cells at positions `begin` to `end`, excluded."""
        memory = self._context.memory
        memory.seq_cp(seq_id, SCRATCH, begin, end)
        try:
            return self._context.state.copy_out(SCRATCH)
        finally:
            memory.seq_rm(SCRATCH)

    def copy_in(self, seq_id: int, data: NDArray[np.uint8], begin: int, end: int) -> None:
        """Give a sequence the cells at `begin` to `end` of what `copy_out` returned.

        Raises `LlamaError` where there are not enough free cells.
        """
        memory = self._context.memory
        self._context.state.copy_in(data, SCRATCH)
        memory.seq_cp(SCRATCH, seq_id, begin, end)
        memory.seq_rm(SCRATCH)
        if memory.seq_pos_max(seq_id) != end - 1:
            raise LlamaError("a restored block does not end where it should")

    def save(self, seq_id: int) -> NDArray[np.uint8]:
        """Return the state of a whole sequence."""
        if not self._scratch:
            return self._context.state.copy_out(seq_id)
        return self.copy_out(seq_id, 0, self._context.n_ctx)

    def restore(self, seq_id: int, data: NDArray[np.uint8] | memoryview, n_tokens: int) -> None:
        """Make a sequence what `save` returned; raises `LlamaError`, and leaves it empty then."""
        self._context.state.copy_in(data, seq_id)
        if self._context.memory.seq_pos_max(seq_id) != n_tokens - 1:
            self.remove(seq_id)
            raise LlamaError(f"the state is not that of {n_tokens} tokens")

    def remove(self, seq_id: int) -> None:
        """Drop a sequence's cells."""
        self._context.memory.seq_rm(seq_id)

    def token_bytes(self) -> int:
        """Return about how many bytes a token's cell takes; sequence `SCRATCH` must hold one token."""
        return self._context.state.size(SCRATCH)
