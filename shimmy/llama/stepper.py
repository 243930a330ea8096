"""The native step: rows of one context, fed and sampled together without the GIL.

Thread: the context's owner, for everything here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from shimmy.errors import InvalidRequestError
from shimmy.llama._ffi import check, ffi, lib, log_mark, raise_fault
from shimmy.llama.handle import Handle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shimmy.llama.context import Context
    from shimmy.llama.row_sampler import RowSampler

# struct shm_row_event: row, token, n_generated, finish, stop, text_offset, text_size
_EVENT = struct.Struct("=iiiiiII")


class Finish(IntEnum):
    """Why a row ended, or that it goes on."""

    NONE = 0
    EOG = 1
    STOP = 2
    LIMIT = 3
    CONTEXT = 4
    ERROR = 5


class StepCode(IntEnum):
    """How a step went. After KV_FULL and ABORTED nothing has changed."""

    OK = 0
    KV_FULL = 1
    ABORTED = 2


@dataclass(frozen=True, slots=True)
class RowEvent:
    """A row that sampled a token. `stop` is the index of the stop string that ended it.

    `text` is whole characters without stop strings; for `Finish.ERROR` it is the message.
    """

    row: int
    token: int | None
    n_generated: int
    finish: Finish
    stop: int | None
    text: str


class Stepper(Handle):
    """Up to `n_rows` rows over one context. A row is its tokens; those not yet in cells wait."""

    def __init__(self, context: Context, n_rows: int) -> None:
        """Keep `context` alive as long as the rows; `n_rows` is at most 256."""
        ptr = lib.shm_stepper_new(context.ptr, n_rows)
        if ptr == ffi.NULL:
            raise_fault("making the rows")
        self._plan = ffi.new("struct shm_bite[]", n_rows)
        self._result = ffi.new("struct shm_step_result *")
        super().__init__(ptr, lib.shm_stepper_free, context)

    def open_row(
        self,
        row: int,
        tokens: Sequence[int],
        *,
        seq_id: int,
        n_ctx: int,
        sampler: RowSampler,
        n_past: int = 0,
        source: int | None = None,
        max_tokens: int | None = None,
        stops: Sequence[str] = (),
    ) -> None:
        """Start a row on `tokens`; the sampler becomes the row's, also on error.

        The first `n_past` of them are in the sequence's cells, or are shared from those of
        `source`; the others wait to be fed.

        Raises:
            InvalidRequestError: a row that is open, a token or sequence id out of range, a prompt
                that is empty or longer than `n_ctx`.
        """
        params = ffi.new(
            "struct shm_row_params *",
            {
                "seq_id": seq_id,
                "max_tokens": -1 if max_tokens is None else max_tokens,
                "n_ctx": n_ctx,
                "source": -1 if source is None else source,
                "n_past": n_past,
            },
        )
        words = [stop.encode() for stop in stops]
        sizes = ffi.new("int32_t[]", [len(word) for word in words])
        try:
            ids = ffi.new("llama_token[]", list(tokens))
        except OverflowError as error:
            raise InvalidRequestError(f"tokens: {error}", param="tokens") from None
        check(
            lib.shm_row_open(
                self.ptr,
                row,
                params,
                ids,
                len(tokens),
                sampler.release(),
                b"".join(words),
                sizes,
                len(words),
            ),
            "starting a row",
        )

    def close_row(self, row: int) -> None:
        """End a row; the cells of its sequence stay."""
        check(lib.shm_row_close(self.ptr, row), "ending a row")

    def remove_sequence(self, seq_id: int) -> None:
        """Drop the cells of a sequence that no row runs."""
        check(lib.shm_seq_remove(self.ptr, seq_id), "removing a sequence")

    def rewind_row(self, row: int) -> int:
        """Drop a row's cells and keep its tokens; return how many wait to be fed again."""
        return check(lib.shm_row_rewind(self.ptr, row), "rewinding a row")

    def step(self, plan: Sequence[tuple[int, int]]) -> tuple[StepCode, list[RowEvent]]:
        """Feed (row, tokens) of the plan in one decode; sample each row that is through.

        Raises:
            InvalidRequestError: a row that is not open, more tokens than wait or than `n_batch`.
            LlamaError: the decode failed; the context is not to be used any more.
        """
        if len(plan) > len(self._plan):
            raise InvalidRequestError(f"plan: {len(plan)} rows, but there are {len(self._plan)}")
        for i, (row, n_tokens) in enumerate(plan):
            bite = self._plan[i]
            bite.row = row
            bite.n_tokens = n_tokens
        result = self._result
        mark = log_mark()
        code = StepCode(
            check(lib.shm_step(self.ptr, self._plan, len(plan), result), "the step", mark=mark)
        )
        if code is not StepCode.OK or result.n_events == 0:
            return code, []
        text = bytes(ffi.buffer(result.text, result.n_text))
        records = ffi.buffer(result.events, result.n_events * _EVENT.size)
        return code, [_event(record, text) for record in _EVENT.iter_unpack(records)]


def _event(record: tuple[int, int, int, int, int, int, int], text: bytes) -> RowEvent:
    row, token, n_generated, finish, stop, offset, size = record
    return RowEvent(
        row=row,
        token=None if token < 0 else token,
        n_generated=n_generated,
        finish=Finish(finish),
        stop=None if stop < 0 else stop,
        text=text[offset : offset + size].decode("utf-8", "replace"),
    )
