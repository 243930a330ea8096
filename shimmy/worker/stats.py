"""A worker's figures, taken beside the engine's thread and without waiting for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shimmy.engine.types.stats import DeviceMemory, WorkerStats
from shimmy.llama import backend

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from shimmy.worker.scheduler import Scheduler
    from shimmy.worker.tally import Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauges:
    """Where a loaded model's figures stand. Thread: any; a figure may be one step old."""

    scheduler: Scheduler
    tally: Tally
    n_slots: int
    n_cells: int
    devices: Sequence[str]

    def read(self) -> WorkerStats:
        """Return the figures as they are now."""
        scheduler, tally = self.scheduler, self.tally
        return WorkerStats(
            n_slots=self.n_slots,
            n_busy=scheduler.n_running,
            n_waiting=scheduler.n_waiting,
            n_cells=self.n_cells,
            n_cells_used=scheduler.n_cells_used,
            n_cells_idle=scheduler.n_cells_idle,
            n_steps=tally.n_steps,
            n_step_rows=tally.n_rows,
            n_step_tokens=tally.n_tokens,
            step_seconds=tally.seconds,
            n_preempted=tally.n_preempted,
            devices=list(self._memory()),
        )

    def _memory(self) -> Iterator[DeviceMemory]:
        """Ask the drivers of the model's own devices only: asking a CUDA device opens it."""
        for name in self.devices:
            device = backend.device(name)
            if device.memory_total > 0:
                free, total = device.memory_free, device.memory_total
                yield DeviceMemory(device=name, free=free, total=total)
