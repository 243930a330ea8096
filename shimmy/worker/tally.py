"""What the engine loop has done, as plain counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(slots=True)
class Tally:
    """Counts since the loop began. Written by the engine's thread, read by any."""

    n_steps: int = 0
    n_rows: int = 0
    n_tokens: int = 0
    seconds: float = 0.0
    n_preempted: int = 0

    def step(self, bites: Sequence[tuple[int, int]], seconds: float) -> None:
        """Count a decode that fed `bites`."""
        self.n_steps += 1
        self.n_rows += len(bites)
        self.n_tokens += sum([n_tokens for _, n_tokens in bites])
        self.seconds += seconds
