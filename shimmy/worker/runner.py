"""The seam between policy and mechanism: what the loop needs of a context, and the real one."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

from shimmy.errors import InvalidRequestError
from shimmy.llama.stepper import RowEvent, StepCode, Stepper

if TYPE_CHECKING:
    from shimmy.llama.context import Context
    from shimmy.worker.adapters import Adapters
    from shimmy.worker.lora_set import LoraSet
    from shimmy.worker.prefix import Placement
    from shimmy.worker.task import Task


class Runner(Protocol):
    """Rows of one context. Thread: the engine's, for all methods."""

    def open(self, slot: int, task: Task, placement: Placement) -> None:
        """Start a row on the task's tokens; those not in its cells yet wait to be fed."""

    def close(self, slot: int) -> None:
        """End a row; its sequence's cells stay."""

    def remove(self, seq_id: int) -> None:
        """Drop the cells of a sequence that no row runs."""

    def flush(self, slot: int) -> str:
        """Take the text that a row holds back, as at its end."""

    def rewind(self, slot: int) -> None:
        """Drop a row's cells; all its tokens wait again."""

    def advance(self, slot: int, n_past: int) -> None:
        """Note that a row's first `n_past` tokens have come into its cells."""

    def shift(self, slot: int, n_keep: int, n_discard: int, *, move: bool) -> None:
        """Forget tokens of a row after the first `n_keep`; `move` their followers' cells, or drop them."""

    def use(self, loras: LoraSet) -> None:
        """Compute with these adapters from the next step on; at first there are none."""

    @property
    def in_flight(self) -> bool:
        """Whether a step runs; nothing but `take` and `hold` may be called then."""

    def step(self, bites: list[tuple[int, int]], *, ahead: bool) -> tuple[StepCode, list[RowEvent]]:
        """Feed the bites in one decode and sample the rows that are through.

        With `ahead`, if all rows go on, the next step of the same rows is `in_flight` afterwards.
        """

    def take(self, *, ahead: bool) -> tuple[StepCode, list[RowEvent]]:
        """Wait for the step in flight."""

    def hold(self) -> None:
        """Let no further step begin by itself. Thread: any."""

    def shut(self) -> None:
        """Free the rows."""


class NoRows:
    """The rows of a model that generates nothing: there are none, and nobody may open one."""

    def open(self, slot: int, task: Task, placement: Placement) -> None:  # noqa: ARG002
        """Refuse."""
        raise InvalidRequestError("this model generates no text", param="model")

    def close(self, slot: int) -> None:
        """Nothing is open."""

    def remove(self, seq_id: int) -> None:
        """Nothing is held."""

    def flush(self, slot: int) -> str:  # noqa: ARG002
        """Nothing runs."""
        return ""

    def rewind(self, slot: int) -> None:
        """Nothing runs."""

    def advance(self, slot: int, n_past: int) -> None:
        """Nothing runs."""

    def shift(self, slot: int, n_keep: int, n_discard: int, *, move: bool) -> None:
        """Nothing runs."""

    def use(self, loras: LoraSet) -> None:
        """Nothing runs."""

    in_flight = False

    def step(
        self,
        bites: list[tuple[int, int]],  # noqa: ARG002
        *,
        ahead: bool,  # noqa: ARG002
    ) -> tuple[StepCode, list[RowEvent]]:
        """Do nothing."""
        return StepCode.OK, []

    def take(self, *, ahead: bool) -> tuple[StepCode, list[RowEvent]]:  # noqa: ARG002
        """Do nothing."""
        return StepCode.OK, []

    def hold(self) -> None:
        """Nothing runs."""

    def shut(self) -> None:
        """Nothing is held."""


class NativeRunner:
    """Rows of a llama.cpp context. A row's number is its slot."""

    def __init__(
        self,
        context: Context,
        adapters: Adapters,
        *,
        n_slots: int,
        n_ctx: int,
        shifts: bool = False,
        overlaps: bool = True,
    ) -> None:
        """`n_ctx` is the most tokens that one row may hold; with `shifts` it goes on then.

        Without `overlaps` no step runs ahead.
        """
        self._context = context
        self._adapters = adapters
        self._stepper = Stepper(context, n_slots)
        self._shifts = shifts
        self._overlaps = overlaps
        self._n_ctx = n_ctx
        # `hold` comes from other threads, at times after the end
        self._lock = threading.Lock()
        self._shut = False

    def open(self, slot: int, task: Task, placement: Placement) -> None:
        """Start a row, sharing cells as placed; the task's sampler becomes the row's."""
        self._stepper.open_row(
            slot,
            task.job.tokens,
            seq_id=placement.seq_id,
            source=placement.source,
            n_past=placement.n_shared,
            n_ctx=self._n_ctx,
            shifts=self._shifts and not task.job.media,
            media=[(one.start, one.picture, one.piece) for one in task.job.media],
            max_tokens=task.max_tokens,
            min_tokens=task.min_tokens,
            sampler=task.sampler,
            stops=task.stops,
            stop_tokens=task.stop_tokens,
            logprobs=task.logprobs,
            prompt_logprobs=task.prompt_logprobs,
        )

    def close(self, slot: int) -> None:
        """End a row; its sequence's cells stay."""
        self._stepper.close_row(slot)

    def remove(self, seq_id: int) -> None:
        """Drop the cells of a sequence that no row runs."""
        self._stepper.remove_sequence(seq_id)

    def flush(self, slot: int) -> str:
        """Take the text that a row holds back, as at its end."""
        return self._stepper.flush_row(slot)

    def rewind(self, slot: int) -> None:
        """Drop a row's cells; all its tokens wait again."""
        self._stepper.rewind_row(slot)

    def advance(self, slot: int, n_past: int) -> None:
        """Note that a row's first `n_past` tokens have come into its cells."""
        self._stepper.advance_row(slot, n_past)

    def shift(self, slot: int, n_keep: int, n_discard: int, *, move: bool) -> None:
        """Forget tokens of a row after the first `n_keep`; `move` their followers' cells, or drop them."""
        self._stepper.shift_row(slot, n_keep, n_discard, move=move)

    def use(self, loras: LoraSet) -> None:
        """Compute with these adapters from the next step on; at first there are none."""
        self._adapters.use(self._context, loras)

    @property
    def in_flight(self) -> bool:
        """Whether a step runs; nothing but `take` and `hold` may be called then."""
        return self._stepper.in_flight

    def step(self, bites: list[tuple[int, int]], *, ahead: bool) -> tuple[StepCode, list[RowEvent]]:
        """Feed the bites in one decode and sample the rows that are through."""
        return self._stepper.step(bites, ahead=ahead and self._overlaps)

    def take(self, *, ahead: bool) -> tuple[StepCode, list[RowEvent]]:
        """Wait for the step in flight."""
        return self._stepper.take(ahead=ahead and self._overlaps)

    def hold(self) -> None:
        """Let no further step begin by itself. Thread: any."""
        with self._lock:
            if not self._shut:
                self._stepper.hold()

    def shut(self) -> None:
        """Free the rows; the context stays its owner's."""
        with self._lock:
            self._shut = True
        self._stepper.close()
