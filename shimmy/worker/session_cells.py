"""Cells of sessions, as pieces and back, a few milliseconds at a time. Thread: the engine's.

A sequence that is being saved is held by another, so that nothing happens to it meanwhile; one that
is being brought runs until it is whole, so that it is not evicted.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shimmy.errors import InvalidRequestError, LlamaError, OverloadedError
from shimmy.worker.cells import Cells, WindowCells
from shimmy.worker.pager import block_size
from shimmy.worker.session_file import Piece

if TYPE_CHECKING:
    from collections.abc import Callable

    from shimmy.worker.checkpoints import Checkpoints
    from shimmy.worker.loading import Loaded
    from shimmy.worker.lora_set import LoraSet
    from shimmy.worker.pager import Pager
    from shimmy.worker.prefix import PrefixIndex
    from shimmy.worker.resident import Resident
    from shimmy.worker.scheduler import Scheduler
    from shimmy.worker.windows import Windows

SECONDS = 0.005
"""How long the engine's thread copies at a time, whole pieces apart."""


@dataclass(slots=True)
class Held:
    """A sequence that is being saved: `pieces` are left, each a call that copies it."""

    seq_id: int
    tokens: bytes
    loras: LoraSet
    pieces: list[Callable[[], Piece]]


@dataclass(slots=True)
class Bringing:
    """A sequence that is being restored: `pieces` are left."""

    seq_id: int
    tokens: list[int]
    pieces: list[Piece]


class SessionCells:
    """Copies sequences in pieces where parts of them can be copied, and else in one."""

    def __init__(
        self,
        loaded: Loaded,
        index: PrefixIndex,
        scheduler: Scheduler,
        paging: Pager | Checkpoints | Windows | None,
    ) -> None:
        """All of the same context."""
        layout = loaded.layout
        self._memory = loaded.context.memory
        self._window = layout.window
        self._in_parts = layout.scratch
        self._cells = Cells(loaded.context, apart=layout.window)
        self._states = (
            None
            if layout.window is None
            else WindowCells(loaded.context, layout.window, scratch=layout.scratch)
        )
        self._n_block = block_size(loaded.token_bytes)
        self._index = index
        self._scheduler = scheduler
        self._paging = paging

    def hold(self, left: Resident) -> Held:
        """Begin to save an idle sequence.

        Raises:
            InvalidRequestError: a part of what is needed to go on with it is gone.
            OverloadedError: there is no sequence that could hold it.
        """
        if self._paging is not None and not self._paging.complete(left):
            raise InvalidRequestError(
                "the session cannot be saved: a part of it was needed for others", param="id_slot"
            )
        tokens = bytes(left.tokens)
        held = Held(-1, tokens, left.loras, [])
        if not self._in_parts:
            whole = Piece(0, left.n_tokens, self._cells.save(left.seq_id).data)
            held.pieces.append(lambda: whole)
            return held
        self._index.touch(left.seq_id)
        if not self._make_room(0) or self._index.resident(left.seq_id) is not left:
            raise OverloadedError("all sequences are in use: try again later")
        held.seq_id = self._index.copy(left.seq_id)
        self._memory.seq_cp(left.seq_id, held.seq_id)
        held.pieces += [
            self._part(held.seq_id, begin, min(begin + self._n_block, left.n_tokens))
            for begin in range(0, left.n_tokens, self._n_block)
        ]
        if self._states is not None:
            held.pieces.append(_window_part(self._states, held.seq_id, left.n_tokens))
        return held

    def take(self, held: Held) -> list[Piece]:
        """Copy the next pieces, for a short time; none: that was all."""
        until = time.monotonic() + SECONDS
        taken: list[Piece] = []
        while held.pieces and (not taken or time.monotonic() < until):
            taken.append(held.pieces.pop(0)())
        return taken

    def release(self, held: Held) -> None:
        """Let go of a sequence, whether it was saved or not."""
        if held.seq_id >= 0:
            self._index.drop(held.seq_id)
            self._cells.remove(held.seq_id)

    def bring(self, tokens: list[int], pieces: list[Piece], loras: LoraSet) -> Bringing:
        """Begin to restore a sequence.

        Raises:
            OverloadedError: the running requests need all cells.
        """
        if not self._make_room(len(tokens)):
            raise OverloadedError("the running requests need all cells: try again later")
        return Bringing(self._index.open(loras), tokens, list(pieces))

    def put(self, bringing: Bringing) -> bool:
        """Restore the next pieces, for a short time; True: that was all.

        Raises:
            LlamaError: llama.cpp refuses one.
            OverloadedError: the running requests have taken the cells meanwhile.
        """
        until = time.monotonic() + SECONDS
        while bringing.pieces:
            self._restore(bringing, bringing.pieces.pop(0))
            if time.monotonic() >= until and bringing.pieces:
                return False
        if self._window is None or self._window.reaches(bringing.seq_id, len(bringing.tokens)):
            return True
        raise LlamaError("it lacks what layers with a sliding window need")

    def drop(self, bringing: Bringing) -> None:
        """Give up to restore a sequence."""
        self._index.drop(bringing.seq_id)
        self._cells.remove(bringing.seq_id)

    def forget(self, left: Resident) -> None:
        """Remove the cells of a sequence, and what is kept of it in host memory."""
        if self._paging is not None:
            self._paging.forget(left)
        self._cells.remove(left.seq_id)

    def _part(self, seq_id: int, begin: int, end: int) -> Callable[[], Piece]:
        return lambda: Piece(begin, end, self._cells.copy_out(seq_id, begin, end).data)

    def _restore(self, bringing: Bringing, piece: Piece) -> None:
        try:
            self._place(bringing, piece)
        except LlamaError:
            if self._paging is not None:
                self._paging.relieve()
            if not self._make_room(len(bringing.tokens) - piece.begin):
                raise OverloadedError(
                    "the running requests need all cells: try again later"
                ) from None
            self._place(bringing, piece)
        self._index.extend(bringing.seq_id, bringing.tokens[piece.begin : piece.end])

    def _place(self, bringing: Bringing, piece: Piece) -> None:
        if piece.is_window:
            if self._states is not None:
                self._states.restore(bringing.seq_id, piece.data, piece.end)
        elif self._in_parts:
            self._cells.copy_in(bringing.seq_id, piece.data, piece.begin, piece.end)
        elif len(bringing.tokens) == piece.end - piece.begin:
            self._cells.restore(bringing.seq_id, piece.data, piece.end)
        else:
            raise LlamaError("it was saved where all slots share their cells")

    def _make_room(self, n_cells: int) -> bool:
        """Let idle sequences go for one of `n_cells`."""
        evicted, room = self._scheduler.clear(n_cells)
        if self._paging is not None and evicted:
            self._paging.begin(busy=True)
        for one in evicted:
            if self._paging is not None:
                self._paging.save(one.resident)
            self._cells.remove(one.seq_id)
        return room


def _window_part(states: WindowCells, seq_id: int, end: int) -> Callable[[], Piece]:
    return lambda: Piece(end, end, states.save(seq_id).data)
