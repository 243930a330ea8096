"""Whose turn it is among rows with different adapters: a step computes with one set only."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from shimmy.worker.lora_set import NO_LORAS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shimmy.worker.job import Job
    from shimmy.worker.lora_set import LoraSet

TURN = 4
"""Steps that a set has in a row while it generates: after each switch llama.cpp builds its graph
anew. A step that takes in prompts ends the turn, being as long as many others."""


class Rotation:
    """The sets of the rows that run, each in its turn."""

    def __init__(self) -> None:
        """There are no rows."""
        self._n_rows: Counter[LoraSet] = Counter()
        self._current = NO_LORAS
        self._left = 0

    def enter(self, loras: LoraSet) -> None:
        """Count a row with these adapters."""
        self._n_rows[loras] += 1

    def leave(self, loras: LoraSet) -> None:
        """Count one row less."""
        self._n_rows[loras] -= 1
        if not self._n_rows[loras]:
            del self._n_rows[loras]

    def rows(self, rows: Sequence[Job]) -> tuple[LoraSet, Sequence[Job]]:
        """Return the set whose turn it is, and those of `rows` that have it."""
        if len(self._n_rows) < 2:
            self._current = next(iter(self._n_rows), NO_LORAS)
            return self._current, rows
        able = {job.loras for job in rows if not job.paused and not job.n_fetch}
        if self._left < 1 or self._current not in able:
            self._current = self._next(able)
            self._left = TURN
        self._left -= 1
        return self._current, [job for job in rows if job.loras == self._current]

    def fed(self, bites: Sequence[tuple[int, int]]) -> None:
        """Note what the set whose turn it is feeds in the step."""
        if any(n_tokens > 1 for _, n_tokens in bites):
            self._left = 0

    def _next(self, able: set[LoraSet]) -> LoraSet:
        """Return the first set after the current one, in the order of their first rows."""
        order = list(self._n_rows)
        begin = order.index(self._current) + 1 if self._current in self._n_rows else 0
        around = order[begin:] + order[:begin]
        return next((loras for loras in around if loras in able), self._current)
