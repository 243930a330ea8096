"""The projector of a model: with which options it is loaded, and what if it cannot be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shimmy.errors import ModelLoadError
from shimmy.llama.projector import Projector, ProjectorParams
from shimmy.worker.cores import n_threads

if TYPE_CHECKING:
    from shimmy.engine.types.options import EngineOptions
    from shimmy.llama.model import Model
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
        projector = Projector(model, options.mmproj, projector_params(options, chosen))
    except ModelLoadError as error:
        if options.mmproj_required:
            raise
        return None, f"the model sees no images: {error.message}"
    if projector.sees:
        return projector, None
    projector.close()
    reason = f"{options.mmproj} takes sound only, which is not supported yet"
    if options.mmproj_required:
        raise ModelLoadError(f"mmproj: {reason}")
    return None, f"the model sees no images: {reason}"


def projector_params(options: EngineOptions, chosen: Placement) -> ProjectorParams:
    """Return how a projector computes: on the model's first GPU, if it has one."""
    on_gpu = options.mmproj_offload and bool(chosen.devices) and options.n_gpu_layers != 0
    return ProjectorParams(
        device=chosen.devices[0] if on_gpu else None,
        n_threads=n_threads(options),
        image_min_tokens=options.image_min_tokens,
        image_max_tokens=options.image_max_tokens,
    )
