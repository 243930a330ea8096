"""What a model's projector takes of the memory that a load has: for now its file, weights and all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from shimmy.worker.measure import NOTHING
from shimmy.worker.room import HOST

if TYPE_CHECKING:
    from shimmy.engine.types.options import EngineOptions
    from shimmy.worker.measure import Measure
    from shimmy.worker.placement import Placement


def size(options: EngineOptions) -> int:
    """Return about how many bytes the projector takes, 0 without one.

    What computing with it takes is not known from outside. A file that is not there counts for
    nothing: the load says so.
    """
    if options.mmproj is None:
        return 0
    try:
        return Path(options.mmproj).stat().st_size
    except OSError:
        return 0


def device(options: EngineOptions, chosen: Placement) -> str:
    """Return where the projector goes: the first of the model's devices, or the host."""
    return chosen.devices[0] if options.mmproj_offload and chosen.devices else HOST


def with_projector(measured: Measure, options: EngineOptions, chosen: Placement) -> Measure:
    """Return what the model takes with its projector."""
    n_bytes = size(options)
    if not n_bytes:
        return measured
    name = device(options, chosen)
    part = replace(measured.devices.get(name, NOTHING), projector=n_bytes)
    return replace(measured, devices=measured.devices | {name: part})
