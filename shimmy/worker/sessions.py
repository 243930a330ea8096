"""Saving what a slot's last request left in the cells, and bringing it back.

The context is touched on the engine's thread alone, between two steps, and for a few milliseconds at
a time; checksums and files are the caller's thread's. A restored session is an idle sequence like any
other: the next prompt that begins like it goes on from there, in whichever slot.
"""

from __future__ import annotations

import re
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from shimmy.engine.types.slot import SlotDone, SlotInfo
from shimmy.errors import (
    EngineClosedError,
    InvalidRequestError,
    LlamaError,
    OverloadedError,
    UnsupportedError,
)
from shimmy.worker.resident import tokens_of
from shimmy.worker.session_file import SessionWriter, read_session

if TYPE_CHECKING:
    from collections.abc import Callable

    from shimmy.engine.types.frame import SlotAction
    from shimmy.worker.loading import Loaded
    from shimmy.worker.loop import Loop
    from shimmy.worker.lora_set import LoraSet
    from shimmy.worker.resident import Resident
    from shimmy.worker.scheduler import Scheduler
    from shimmy.worker.session_cells import Bringing, SessionCells
    from shimmy.worker.session_file import SessionFile

T = TypeVar("T")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,126}")
_SECONDS = 60.0


def session_file(directory: str, filename: str) -> Path:
    """Return where a session of that name lies.

    Raises:
        InvalidRequestError: a name with a separator, a leading dot, or other than plain characters.
    """
    if not _NAME.fullmatch(filename) or filename.endswith(".part"):
        raise InvalidRequestError(
            "filename must be up to 127 letters, digits, '.', '_' and '-', beginning with a letter "
            f"or digit, got {filename!r}",
            param="filename",
        )
    return Path(directory) / filename


class Sessions:
    """The sessions of one context. Thread: any but the engine's; one `act` at a time."""

    def __init__(
        self, loaded: Loaded, scheduler: Scheduler, loop: Loop, cells: SessionCells
    ) -> None:
        """Everything here is the engine thread's, which `loop` reaches."""
        self._state = loaded.context.state
        self._adapters = loaded.adapters
        self._layout = loaded.layout
        self._cells = cells
        self._scheduler = scheduler
        self._loop = loop
        self._lock = threading.Lock()
        self._closed = False
        # What the engine's thread is to do.
        self._pending: set[Future[Any]] = set()

    def close(self) -> None:
        """Note that the loop has ended: who waits for it gets `EngineClosedError`. Thread: any."""
        with self._lock:
            self._closed = True
            for outcome in self._pending:
                if not outcome.done():
                    outcome.set_exception(EngineClosedError("the engine was closed"))

    def slots(self) -> list[SlotInfo]:
        """Return all slots as they are between two steps."""
        return self._on_engine(self._slots)

    def act(self, action: SlotAction, directory: str | None) -> SlotDone:
        """Do what is asked for; raises as the methods below and `session_file`.

        Raises:
            UnsupportedError: there is no `directory`.
        """
        if directory is None:
            raise UnsupportedError(
                "this server keeps no sessions: start it with --slot-save-path DIR"
            )
        if action.verb == "erase":
            return self.erase(action.slot)
        path = session_file(directory, action.filename)
        if action.verb == "save":
            return self.save(action.slot, path)
        return self.restore(action.slot, path)

    def save(self, slot: int, path: Path) -> SlotDone:
        """Write what the slot's last request left.

        Raises:
            InvalidRequestError: no such slot, a request runs in it, or it has left nothing.
            LlamaError: the file cannot be written.
        """
        began = time.monotonic()
        held = self._on_engine(lambda: self._cells.hold(self._filled(slot)))
        try:
            with SessionWriter(path) as file:
                file.head(self._state.fingerprint(), self._adapters.mark(held.loras), held.tokens)
                while pieces := self._on_engine(lambda: self._cells.take(held)):
                    for piece in pieces:
                        file.piece(piece)
        except OSError as error:
            raise LlamaError(f"the session cannot be written: {error.strerror}") from error
        finally:
            self._loop.call(lambda: self._cells.let_go(held))
        n_tokens = len(tokens_of(held.tokens))
        return SlotDone(n_tokens=n_tokens, n_bytes=file.n_bytes, ms=_ms_since(began))

    def restore(self, slot: int, path: Path) -> SlotDone:
        """Make a saved session what the slot has left.

        Raises:
            InvalidRequestError: no such slot or file, a file that is damaged or of another model, a
                session longer than a slot's context.
            OverloadedError: the running requests need all cells.
        """
        began = time.monotonic()
        try:
            file = read_session(path)
            if file.fingerprint != self._state.fingerprint():
                raise LlamaError(
                    "it is of another model, or of a context with other KV types or RoPE settings"
                )
            loras = self._adapters.unmark(file.mark)
        except FileNotFoundError:
            raise InvalidRequestError(
                f"there is no session {path.name!r}", param="filename"
            ) from None
        except (OSError, LlamaError) as error:
            raise InvalidRequestError(
                f"session {path.name!r} cannot be restored: {_reason(error)}", param="filename"
            ) from error
        if not 0 < len(file.tokens) < self._layout.n_ctx_row:
            raise InvalidRequestError(
                f"session {path.name!r} has {len(file.tokens)} tokens, a slot holds fewer than "
                f"{self._layout.n_ctx_row}",
                param="filename",
            )
        bringing = self._on_engine(lambda: self._begin(slot, file, loras))
        try:
            while not self._on_engine(lambda: self._cells.put(bringing)):
                pass
        except LlamaError as error:
            raise InvalidRequestError(
                f"llama.cpp refuses the session: {error.message}", param="filename"
            ) from error
        finally:
            self._loop.call(lambda: self._cells.let_go(bringing))
        return SlotDone(n_tokens=len(file.tokens), n_bytes=file.n_bytes, ms=_ms_since(began))

    def erase(self, slot: int) -> SlotDone:
        """Forget what the slot's last request left, in host memory too."""
        began = time.monotonic()
        n_tokens = self._on_engine(lambda: self._erase(slot))
        return SlotDone(n_tokens=n_tokens, n_bytes=0, ms=_ms_since(began))

    def _on_engine(self, function: Callable[[], T]) -> T:
        """Run `function` between two steps and return what it does, or raise what it raises."""
        outcome: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise EngineClosedError("the engine was closed")
            self._pending.add(outcome)

        def run() -> None:
            if not outcome.set_running_or_notify_cancel():
                return
            try:
                outcome.set_result(function())
            except Exception as error:  # noqa: BLE001  the caller's, not the loop's
                outcome.set_exception(error)

        self._loop.call(run)
        try:
            return outcome.result(_SECONDS)
        except TimeoutError:
            if not outcome.cancel():
                return outcome.result()  # it runs now
            raise OverloadedError("the engine did not come to it: try again later") from None
        finally:
            with self._lock:
                self._pending.remove(outcome)

    def _slots(self) -> list[SlotInfo]:
        return [self._describe(slot) for slot in range(self._layout.n_slots)]

    def _describe(self, slot: int) -> SlotInfo:
        n_ctx = self._layout.n_ctx_row
        job = self._scheduler.running(slot)
        if job is None:
            left = self._scheduler.left_resident(slot)
            n_past = 0 if left is None else left.n_tokens
            return SlotInfo(id=slot, n_ctx=n_ctx, is_processing=False, n_past=n_past)
        n_prompt = len(tokens_of(job.key)) + 1
        return SlotInfo(
            id=slot,
            n_ctx=n_ctx,
            is_processing=True,
            n_past=job.n_past,
            request_id=job.id,
            n_prompt=n_prompt,
            n_cached=job.n_shared,
            n_generated=job.n_tokens + job.n_discarded - n_prompt,
        )

    def _left(self, slot: int) -> Resident | None:
        """Return the idle sequence that the slot's last request left, if it holds anything."""
        if not 0 <= slot < self._layout.n_slots:
            raise InvalidRequestError(
                f"there is no slot {slot}: they are 0 to {self._layout.n_slots - 1}",
                param="id_slot",
            )
        if self._scheduler.running(slot) is not None:
            raise InvalidRequestError(
                f"slot {slot} is processing a request: try again when it has ended",
                param="id_slot",
            )
        left = self._scheduler.left_resident(slot)
        return left if left is not None and left.tokens else None

    def _begin(self, slot: int, file: SessionFile, loras: LoraSet) -> Bringing:
        self._left(slot)
        return self._cells.bring(slot, file.tokens, file.pieces, loras)

    def _filled(self, slot: int) -> Resident:
        left = self._left(slot)
        if left is None:
            raise InvalidRequestError(
                f"slot {slot} has nothing to save: no request ended in it, or its cells were "
                "needed for others",
                param="id_slot",
            )
        return left

    def _erase(self, slot: int) -> int:
        left = self._left(slot)
        if left is None:
            return 0
        self._scheduler.erase(slot)
        self._cells.forget(left)
        return left.n_tokens


def _reason(error: Exception) -> str:
    if isinstance(error, LlamaError):
        return error.message
    return getattr(error, "strerror", None) or str(error)


def _ms_since(began: float) -> float:
    return 1e3 * (time.monotonic() - began)
