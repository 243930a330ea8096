"""Cells of sessions, as pieces and back, a few milliseconds at a time. Thread: the engine's.

A sequence that is being saved is held by another, so that nothing happens to it meanwhile; one that
is being brought runs until it is whole, so that it is not evicted. Both give way to a row that needs
their cells.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shimmy.errors import InvalidRequestError, LlamaError, OverloadedError
from shimmy.worker.cells import Cells, WindowCells
from shimmy.worker.medium import n_text
from shimmy.worker.pager import block_size
from shimmy.worker.session_file import Piece

if TYPE_CHECKING:
    from collections.abc import Callable

    from shimmy.worker.loading import Loaded
    from shimmy.worker.lora_set import LoraSet
    from shimmy.worker.paging import Paging
    from shimmy.worker.prefix import PrefixIndex
    from shimmy.worker.resident import Resident
    from shimmy.worker.scheduler import Scheduler

PAUSE = 0.025
"""Seconds from step to step while cells are copied, if steps leave so much: nobody reads faster."""

LEAST = 0.005
"""How long the engine's thread copies at a time however long steps take, whole pieces apart."""

_NO_ROOM = "the running requests need all cells: try again later"


@dataclass(slots=True)
class Held:
    """A sequence that is being saved: `pieces` are left, each a call that copies it.

    Those that are `copied` wait to be taken. Without a `seq_id` it holds no cells.
    """

    tokens: bytes
    loras: LoraSet
    seq_id: int | None = None
    pieces: list[Callable[[], Piece]] = field(default_factory=list)
    copied: list[Piece] = field(default_factory=list)


@dataclass(slots=True)
class Bringing:
    """A sequence that is being restored, for a slot to have left: `pieces` are left.

    Without a `seq_id` it is restored, or was given up.
    """

    slot: int
    seq_id: int | None
    tokens: list[int]
    pieces: list[Piece]


class SessionCells:
    """Copies sequences in pieces where parts of them can be copied, and else in one.

    One is moved at a time.
    """

    def __init__(
        self,
        loaded: Loaded,
        index: PrefixIndex,
        scheduler: Scheduler,
        paging: Paging | None,
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
        self._moving: Held | Bringing | None = None
        # When copying stopped last.
        self._stopped = 0.0

    def hold(self, left: Resident) -> Held:
        """Begin to save an idle sequence.

        Raises:
            InvalidRequestError: a part of what is needed to go on with it is gone, or there are
                images in it.
            OverloadedError: there is no sequence that could hold it.
        """
        if n_text(left.tokens) < left.n_tokens:
            raise InvalidRequestError(
                "the session cannot be saved: there are images in it", param="id_slot"
            )
        if self._paging is not None and not self._paging.complete(left):
            raise InvalidRequestError(
                "the session cannot be saved: a part of it was needed for others", param="id_slot"
            )
        held = Held(bytes(left.tokens), left.loras)
        if not self._in_parts:
            held.copied.append(Piece(0, left.n_tokens, self._cells.save(left.seq_id).data))
            return held
        self._index.touch(left.seq_id)
        if not self._make_room(0, n_ids=1) or self._index.resident(left.seq_id) is not left:
            raise OverloadedError("all sequences are in use: try again later")
        held.seq_id = seq_id = self._index.copy(left.seq_id)
        self._moving = held
        self._memory.seq_cp(left.seq_id, seq_id)
        held.pieces += [
            self._part(seq_id, begin, min(begin + self._n_block, left.n_tokens))
            for begin in range(0, left.n_tokens, self._n_block)
        ]
        if self._states is not None:
            held.pieces.append(_window_part(self._states, seq_id, left.n_tokens))
        return held

    def take(self, held: Held) -> list[Piece]:
        """Copy the next pieces, for a short time; none: that was all.

        Raises:
            OverloadedError: it had to give way, and there was no memory for what was left.
        """
        if held.pieces and held.seq_id is None:
            raise OverloadedError(_NO_ROOM)
        until = self._until()
        while held.pieces and (not held.copied or time.monotonic() < until):
            held.copied.append(held.pieces.pop(0)())
        self._stopped = time.monotonic()
        taken, held.copied = held.copied, []
        return taken

    def bring(self, slot: int, tokens: list[int], pieces: list[Piece], loras: LoraSet) -> Bringing:
        """Begin to restore a sequence, which a slot will have left.

        Raises:
            InvalidRequestError: it is in parts, which cannot be put together here.
            OverloadedError: the running requests need all cells.
        """
        if not self._in_parts and len(pieces) != 1:
            raise InvalidRequestError(
                "the session cannot be restored: it was saved where all slots share their cells",
                param="filename",
            )
        if not self._make_room(len(tokens), n_ids=1):
            raise OverloadedError(_NO_ROOM)
        self._moving = bringing = Bringing(slot, self._index.open(loras), tokens, list(pieces))
        return bringing

    def put(self, bringing: Bringing) -> bool:
        """Restore the next pieces, for a short time; True: that was all, and the slot has left it.

        Raises:
            LlamaError: llama.cpp refuses one.
            OverloadedError: the running requests have taken the cells meanwhile.
        """
        seq_id, n_tokens = bringing.seq_id, len(bringing.tokens)
        if seq_id is None:
            raise OverloadedError(_NO_ROOM)
        until = self._until()
        while bringing.pieces:
            self._restore(bringing, seq_id, bringing.pieces.pop(0))
            self._stopped = time.monotonic()
            if self._stopped >= until and bringing.pieces:
                return False
        if self._window is not None and not self._window.reaches(seq_id, n_tokens):
            raise LlamaError("it lacks what layers with a sliding window need")
        self._scheduler.adopt(bringing.slot, seq_id)
        bringing.seq_id = self._moving = None
        return True

    def let_go(self, moving: Held | Bringing) -> None:
        """Free the cells that are still the session's own: it was saved, or is given up."""
        if moving.seq_id is not None:
            self._index.drop(moving.seq_id)
            self._cells.remove(moving.seq_id)
            moving.seq_id = self._moving = None

    def give_way(self) -> bool:
        """Free a session's cells for a row that finds no others; False: there are none.

        What is left to be saved is copied now: the row would wait for it anyway. What is being
        restored is given up.
        """
        moving = self._moving
        if moving is None:
            return False
        if isinstance(moving, Held):
            with suppress(LlamaError, MemoryError):  # what stays uncopied is for `take` to tell
                while moving.pieces:
                    moving.copied.append(moving.pieces[0]())
                    del moving.pieces[0]
        self.let_go(moving)
        return True

    def forget(self, left: Resident) -> None:
        """Remove the cells of a sequence, and what is kept of it in host memory."""
        if self._paging is not None:
            self._paging.forget(left)
        self._cells.remove(left.seq_id)

    def _part(self, seq_id: int, begin: int, end: int) -> Callable[[], Piece]:
        return lambda: Piece(begin, end, self._cells.copy_out(seq_id, begin, end).data)

    def _restore(self, bringing: Bringing, seq_id: int, piece: Piece) -> None:
        placed = False
        while not placed:
            try:
                self._place(seq_id, piece)
                placed = True
            except LlamaError:
                if self._relieve(len(bringing.tokens) - piece.begin):
                    continue
                if self._scheduler.n_running:  # which may have the cells that it lacks
                    raise OverloadedError(_NO_ROOM) from None
                raise
        self._index.extend(seq_id, bringing.tokens[piece.begin : piece.end])

    def _place(self, seq_id: int, piece: Piece) -> None:
        if piece.is_window:
            if self._states is not None:
                self._states.restore(seq_id, piece.data, piece.end)
        elif self._in_parts:
            self._cells.copy_in(seq_id, piece.data, piece.begin, piece.end)
        else:
            self._cells.restore(seq_id, piece.data, piece.end)

    def _relieve(self, n_cells: int) -> bool:
        """Free cells of idle sequences, in the layers of a window or in all; False: there are none."""
        if self._paging is not None and self._paging.relieve():
            return True
        n_before = self._index.n_cells
        return self._make_room(n_cells) and self._index.n_cells < n_before

    def _until(self) -> float:
        """When copying is to stop. Since it last did, a step has run, if there are rows."""
        now = time.monotonic()
        step = now - self._stopped
        return now + min(max(PAUSE - step, step / 4, LEAST), PAUSE)

    def _make_room(self, n_cells: int, *, n_ids: int = 0) -> bool:
        """Let idle sequences go for `n_cells` and `n_ids` sequences."""
        evicted, room = self._scheduler.clear(n_cells, n_ids=n_ids)
        if self._paging is not None and evicted:
            self._paging.begin(busy=True)
        for one in evicted:
            if self._paging is not None:
                self._paging.save(one.resident)
            self._cells.remove(one.seq_id)
        return room


def _window_part(states: WindowCells, seq_id: int, end: int) -> Callable[[], Piece]:
    return lambda: Piece(end, end, states.save(seq_id).data)
