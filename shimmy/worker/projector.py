"""The projector of a model: how it is loaded, what if it cannot be, and the memory that it takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from shimmy.errors import ModelLoadError, ShimmyError
from shimmy.llama.projector import Projector, ProjectorParams, projector_size
from shimmy.worker.cores import n_threads
from shimmy.worker.measure import NOTHING
from shimmy.worker.room import HOST

if TYPE_CHECKING:
    from shimmy.engine.types.options import EngineOptions
    from shimmy.llama.model import Model
    from shimmy.worker.measure import Measure
    from shimmy.worker.placement import Placement


def load_projector(
    model: Model, options: EngineOptions, chosen: Placement
) -> tuple[Projector | None, str | None]:
    """Load what lets a model see, if there is anything; or say why it is not used.

    Raises:
        ModelLoadError: a projector that was asked for cannot be loaded.
    """
    if options.mmproj is None:
        return None, None
    try:
        projector = Projector(model, options.mmproj, _params(options, chosen))
    except ModelLoadError as error:
        if options.mmproj_required:
            raise
        return None, f"the model sees no images: {error.message}"
    if projector.sees:
        return projector, None
    projector.close()
    reason = f"{options.mmproj} takes sound only, which is not supported yet"
    if options.mmproj_required:
        raise ModelLoadError(f"--mmproj: {reason}")
    return None, f"the model sees no images: {reason}"


def file_size(options: EngineOptions) -> int:
    """Return the bytes of the projector's file: 0 without one, or if it is not there."""
    if options.mmproj is None:
        return 0
    try:
        return Path(options.mmproj).stat().st_size
    except OSError:
        return 0  # the load says so


def size(options: EngineOptions, chosen: Placement) -> int:
    """Return what the projector takes, weights and buffers: its file's size if it cannot be read."""
    if options.mmproj is None or not file_size(options):
        return 0
    try:
        return projector_size(options.mmproj, _params(options, chosen))
    except ShimmyError:
        return file_size(options)


def device(options: EngineOptions, chosen: Placement) -> str:
    """Return where the projector goes: the first of the model's devices, or the host."""
    return chosen.devices[0] if options.mmproj_offload and chosen.devices else HOST


def with_projector(measured: Measure, options: EngineOptions, n_bytes: int, where: str) -> Measure:
    """Return what the model takes with a projector of `n_bytes` on the device `where`."""
    if options.mmproj is None or not n_bytes:
        return measured
    part = replace(measured.devices.get(where, NOTHING), projector=n_bytes)
    return replace(measured, devices=measured.devices | {where: part})


def _params(options: EngineOptions, chosen: Placement) -> ProjectorParams:
    where = device(options, chosen)
    return ProjectorParams(
        device=None if where == HOST else where,
        n_threads=n_threads(options),
        image_min_tokens=options.image_min_tokens,
        image_max_tokens=options.image_max_tokens,
    )
