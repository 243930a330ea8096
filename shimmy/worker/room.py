"""How much memory there is for a model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from shimmy.llama import backend
from shimmy.machine.memory import free_swap, main_memory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shimmy.worker.measure import Measure, Part

HOST = "CPU"

# left free on each GPU where we choose, as common_fit_params does; of a small one a part
_MARGIN = 1 << 30
_MARGIN_PART = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Free and total bytes by device, the host as CPU; a device that does not say is left out.

    `mapped` weights are read from the file as they are needed, so they may be larger than memory.
    `swap` is what is free beside main memory.
    """

    free: dict[str, int]
    total: dict[str, int]
    mapped: bool = False
    swap: int = 0

    def stretched(self) -> Room:
        """Return the room where speed is given up: weights stay in their file, the rest may be swapped."""
        free = self.free | {HOST: self.free[HOST] + self.swap}
        return replace(self, free=free, mapped=True, swap=0)

    def lacking(self, measured: Measure, *, margin: bool = False) -> dict[str, int]:
        """Return by how many bytes each device is too small; with `margin` GPUs keep some free."""
        left = {
            name: self.left(name, part, margin=margin)
            for name, part in measured.devices.items()
            if name in self.free
        }
        return {name: -n_bytes for name, n_bytes in left.items() if n_bytes < 0}

    def left(self, name: str, part: Part, *, margin: bool = False) -> int:
        """Return how many bytes of a device are left when `part` is on it."""
        spare = min(_MARGIN, self.total[name] // _MARGIN_PART) if margin and name != HOST else 0
        on_disk = part.mappable if self.mapped and name == HOST else 0
        return self.free[name] - spare - part.need + on_disk


def room(devices: Sequence[str]) -> Room:
    """Return what is free now on the host and on these devices."""
    memory = main_memory()
    free, total = {HOST: memory.free}, {HOST: memory.total}
    for device in backend.devices():
        if device.name in devices and device.memory_total > 0:
            free[device.name], total[device.name] = device.memory_free, device.memory_total
    return Room(free=free, total=total, swap=free_swap())
