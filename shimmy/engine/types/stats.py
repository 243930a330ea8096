"""What a worker has done so far and what it holds now: for whoever watches a server."""

from __future__ import annotations

import msgspec


class DeviceMemory(msgspec.Struct, frozen=True, kw_only=True):
    """A device's memory as its driver has it now, whoever uses it; in bytes."""

    device: str
    free: int
    total: int


class WorkerStats(msgspec.Struct, frozen=True, kw_only=True):
    """One worker since its model was loaded.

    `n_busy` slots run, `n_waiting` choices have none yet. Of `n_cells` KV cells `n_cells_used` hold
    tokens, of which `n_cells_idle` only wait for prompts that begin alike. `n_steps` decodes fed
    `n_step_tokens` tokens of `n_step_rows` rows in `step_seconds`; `n_preempted` rows had to pause.
    """

    n_slots: int
    n_busy: int
    n_waiting: int
    n_cells: int
    n_cells_used: int
    n_cells_idle: int
    n_steps: int
    n_step_rows: int
    n_step_tokens: int
    step_seconds: float
    n_preempted: int
    devices: list[DeviceMemory] = []
