"""The seam between policy and mechanism: what the loop needs of a context, and the real one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from shimmy.llama.stepper import RowEvent, StepCode, Stepper

if TYPE_CHECKING:
    from shimmy.llama.context import Context
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

    def rewind(self, slot: int) -> None:
        """Drop a row's cells; all its tokens wait again."""

    def step(self, bites: list[tuple[int, int]]) -> tuple[StepCode, list[RowEvent]]:
        """Feed the bites in one decode and sample the rows that are through."""


class NativeRunner:
    """Rows of a llama.cpp context. A row's number is its slot."""

    def __init__(self, context: Context, *, n_slots: int, n_ctx: int) -> None:
        """`n_ctx` is the most tokens that one row may hold."""
        self._stepper = Stepper(context, n_slots)
        self._n_ctx = n_ctx

    def open(self, slot: int, task: Task, placement: Placement) -> None:
        """Start a row, sharing cells as placed; the task's sampler becomes the row's."""
        self._stepper.open_row(
            slot,
            task.job.tokens,
            seq_id=placement.seq_id,
            source=placement.source,
            n_past=placement.n_shared,
            n_ctx=self._n_ctx,
            max_tokens=task.max_tokens,
            sampler=task.sampler,
            stops=task.stops,
        )

    def close(self, slot: int) -> None:
        """End a row; its sequence's cells stay."""
        self._stepper.close_row(slot)

    def remove(self, seq_id: int) -> None:
        """Drop the cells of a sequence that no row runs."""
        self._stepper.remove_sequence(seq_id)

    def rewind(self, slot: int) -> None:
        """Drop a row's cells; all its tokens wait again."""
        self._stepper.rewind_row(slot)

    def step(self, bites: list[tuple[int, int]]) -> tuple[StepCode, list[RowEvent]]:
        """Feed the bites in one decode and sample the rows that are through."""
        return self._stepper.step(bites)

    def shut(self) -> None:
        """Free the rows; the context stays its owner's."""
        self._stepper.close()
