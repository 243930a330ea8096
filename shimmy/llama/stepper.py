"""The native step: rows of one context, fed and sampled together without the GIL.

Thread: the context's owner, for everything here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from shimmy.errors import InvalidRequestError
from shimmy.llama._ffi import check, ffi, lib, log_mark, raise_fault, take_text
from shimmy.llama.handle import Handle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shimmy.llama.context import Context
    from shimmy.llama.projector import Picture
    from shimmy.llama.row_sampler import RowSampler

# struct shm_row_event: row, token, n_generated, finish, stop, text_offset, text_size, logprob_offset, n_logprobs
_EVENT = struct.Struct("=iiiiiIIII")
# struct shm_logprob: token, logprob
_LOGPROB = struct.Struct("=if")

Logprobs = list[tuple[int, float]]
"""(token, natural log of its probability by the raw logits): a token's own, then the likeliest."""


GRAMMAR_SECONDS = 1.0
"""Of CPU that a grammar may take for a token, while all other rows wait."""


class Finish(IntEnum):
    """Why a row ended, or that it goes on."""

    NONE = 0
    EOG = 1
    STOP = 2
    LIMIT = 3
    CONTEXT = 4
    ERROR = 5
    SHIFT = 6
    """It goes on, once `shift_row` has made room in its context."""
    TOKEN = 7
    GRAMMAR = 8
    """As ERROR, but its grammar is to blame."""


_FINISHES = tuple(Finish)


class StepCode(IntEnum):
    """How a step went. After KV_FULL and ABORTED nothing has changed."""

    OK = 0
    KV_FULL = 1
    ABORTED = 2


@dataclass(frozen=True, slots=True)
class RowScores:
    """Log-probabilities that a row asked for: of its new token, and of its prompt's tokens.

    Those of the prompt come once, with the row's first event, from the second token on.
    """

    token: Logprobs
    prompt: list[Logprobs]


@dataclass(frozen=True, slots=True)
class RowEvent:
    """A row that sampled a token. `stop` is the index of the stop string that ended it.

    `text` is whole characters without stop strings; for `Finish.ERROR` and `GRAMMAR` it is the
    message. `token` is None when none was sampled.
    """

    row: int
    token: int | None
    n_generated: int
    finish: Finish
    stop: int | None
    text: str
    scores: RowScores | None = None


class Stepper(Handle):
    """Up to `n_rows` rows over one context. A row is its tokens; those not yet in cells wait."""

    def __init__(self, context: Context, n_rows: int) -> None:
        """Keep `context` alive as long as the rows; `n_rows` is at most 256."""
        n_outputs = context.params.n_outputs_max or context.n_batch
        ptr = lib.shm_stepper_new(context.ptr, n_rows, n_outputs, context.model.ends)
        if ptr == ffi.NULL:
            raise_fault("making the rows")
        # Log-probabilities of prompts that are still being fed, by row.
        self._prompts: dict[int, list[Logprobs]] = {}
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
        shifts: bool = False,
        max_tokens: int | None = None,
        min_tokens: int = 0,
        stops: Sequence[str] = (),
        stop_tokens: Sequence[int] = (),
        logprobs: int | None = None,
        prompt_logprobs: int | None = None,
        grammar_seconds: float = GRAMMAR_SECONDS,
        media: Sequence[tuple[int, Picture, int]] = (),
    ) -> None:
        """Start a row on `tokens`; the sampler becomes the row's, also on error.

        The first `n_past` of them are in the sequence's cells, or are shared from those of
        `source`; the others wait to be fed. Where it `shifts`, its context's end is not its own.

        With `max_tokens` 0 it ends when its prompt is fed. Until `min_tokens` neither an end token,
        nor one of `stop_tokens`, nor a stop string ends it. `logprobs` and `prompt_logprobs` are how
        many likeliest tokens to tell beside each; a prompt with the latter shares no cells. A row whose
        grammar takes more than `grammar_seconds` of CPU for a token ends with `Finish.GRAMMAR`.

        `media` are (first token, picture, number of its piece), in order: the piece's embeddings are
        fed in the place of as many tokens, which are below 0. A row with media neither shifts nor
        tells its prompt's log-probabilities.

        Raises:
            InvalidRequestError: a row that is open, a token or sequence id out of range, a prompt
                that is empty or longer than `n_ctx`.
        """
        ends = ffi.new("llama_token[]", list(stop_tokens))
        spans = ffi.new(
            "struct shm_row_medium[]", [(start, picture.ptr, i) for start, picture, i in media]
        )
        params = ffi.new(
            "struct shm_row_params *",
            {
                "seq_id": seq_id,
                "max_tokens": -1 if max_tokens is None else max_tokens,
                "n_ctx": n_ctx,
                "source": -1 if source is None else source,
                "n_past": n_past,
                "shifts": shifts,
                "min_tokens": min_tokens,
                "n_logprobs": -1 if logprobs is None else logprobs,
                "n_prompt_logprobs": -1 if prompt_logprobs is None else prompt_logprobs,
                "stop_tokens": ends,
                "n_stop_tokens": len(stop_tokens),
                "grammar_us": max(round(grammar_seconds * 1e6), 1),
                "media": spans,
                "n_media": len(media),
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
        self._prompts.pop(row, None)
        check(lib.shm_row_close(self.ptr, row), "ending a row")

    def remove_sequence(self, seq_id: int) -> None:
        """Drop the cells of a sequence that no row runs."""
        check(lib.shm_seq_remove(self.ptr, seq_id), "removing a sequence")

    def flush_row(self, row: int) -> str:
        """Take the text that a row holds back, as at its end: it may have turned into a stop string.

        Bytes of a character that is not whole yet are dropped.
        """
        return take_text(lib.shm_row_flush(self.ptr, row), "ending a row")

    def rewind_row(self, row: int) -> int:
        """Drop a row's cells and keep its tokens; return how many wait to be fed again."""
        return check(lib.shm_row_rewind(self.ptr, row), "rewinding a row")

    def advance_row(self, row: int, n_past: int) -> None:
        """Note that the caller has put the first `n_past` tokens into the row's sequence."""
        check(lib.shm_row_advance(self.ptr, row, n_past), "advancing a row")

    def shift_row(self, row: int, n_keep: int, n_discard: int, *, move: bool) -> None:
        """Forget `n_discard` tokens after the first `n_keep`.

        With `move` the cells behind them move up, for every sequence that holds them; without,
        they are dropped and their tokens wait to be fed.
        """
        check(lib.shm_row_shift(self.ptr, row, n_keep, n_discard, move), "shifting a row")

    @property
    def in_flight(self) -> bool:
        """Whether a step runs whose outcome is to be taken before anything else is done."""
        return bool(self._result.in_flight)

    def step(
        self, plan: Sequence[tuple[int, int]], *, ahead: bool = False
    ) -> tuple[StepCode, list[RowEvent]]:
        """Feed (row, tokens) of the plan; sample each row that is through.

        A medium is fed whole, and by itself: a row's tokens before and behind it in other steps.

        With `ahead`, where all rows of the plan are through and go on, the step that feeds each its
        new token begins before this returns, and is then `in_flight`: the next call is `take`.

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
        return self._run(len(plan), ahead=ahead)

    def take(self, *, ahead: bool = False) -> tuple[StepCode, list[RowEvent]]:
        """Wait for the step in flight; return and raise as `step` does."""
        return self._run(0, ahead=ahead)

    def hold(self) -> None:
        """Take back an `ahead` that has not been made use of yet. Thread: any, before `close`."""
        lib.shm_step_hold(self.ptr)

    def _run(self, n_plan: int, *, ahead: bool) -> tuple[StepCode, list[RowEvent]]:
        result = self._result
        mark = log_mark()
        code = StepCode(
            check(lib.shm_step(self.ptr, self._plan, n_plan, ahead, result), "the step", mark=mark)
        )
        if code is not StepCode.OK:
            return code, []
        if result.n_scores:
            self._keep_scores()
        if result.n_events == 0:
            return code, []
        text = bytes(ffi.buffer(result.text, result.n_text))
        records = ffi.buffer(result.events, result.n_events * _EVENT.size)
        return code, [self._event(record, text) for record in _EVENT.iter_unpack(records)]

    def _event(
        self, record: tuple[int, int, int, int, int, int, int, int, int], text: bytes
    ) -> RowEvent:
        row, token, n_generated, finish, stop, offset, size, logprob_offset, n_logprobs = record
        scores = None
        if n_logprobs or self._prompts:
            prompt = self._prompts.pop(row, None)
            if n_logprobs or prompt:
                scores = RowScores(self._logprobs(logprob_offset, n_logprobs), prompt or [])
        return RowEvent(
            row,
            None if token < 0 else token,
            n_generated,
            _FINISHES[finish],
            None if stop < 0 else stop,
            text[offset : offset + size].decode("utf-8", "replace"),
            scores,
        )

    def _keep_scores(self) -> None:
        for i in range(self._result.n_scores):
            score = self._result.scores[i]
            width = 1 + score.n_top
            kept = self._prompts.setdefault(score.row, [])
            kept.extend(
                self._logprobs(score.logprob_offset + k * width, width)
                for k in range(score.n_tokens)
            )

    def _logprobs(self, offset: int, n: int) -> Logprobs:
        records = ffi.buffer(self._result.logprobs + offset, n * _LOGPROB.size)
        return list(_LOGPROB.iter_unpack(records))
