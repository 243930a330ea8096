"""From options to the parameters of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shimmy.llama.model_params import (
    LoadMode,
    ModelParams,
    SplitMode,
    TensorBuftOverride,
    cpu_moe,
    n_cpu_moe,
)
from shimmy.worker.choice import choice

if TYPE_CHECKING:
    from shimmy.engine.types.options import EngineOptions
    from shimmy.worker.placement import Placement


def model_params(options: EngineOptions, chosen: Placement) -> ModelParams:
    """Return the parameters of a load on the chosen devices.

    Raises:
        ConfigError: an option cannot be; it names the flag.
    """
    overrides = [
        TensorBuftOverride(pattern=pattern, buffer_type=buft)
        for pattern, buft in options.override_tensor
    ]
    if options.cpu_moe:
        overrides += cpu_moe()
    if options.n_cpu_moe is not None:
        overrides += n_cpu_moe(options.n_cpu_moe)
    return ModelParams(
        devices=chosen.devices,
        tensor_buft_overrides=tuple(overrides),
        n_gpu_layers=options.n_gpu_layers if chosen.devices else 0,
        split_mode=choice(SplitMode, options.split_mode, "--split-mode"),
        load_mode=choice(LoadMode, options.load_mode, "--load-mode"),
        main_gpu=options.main_gpu,
        tensor_split=options.tensor_split or None,
        check_tensors=options.check_tensors,
        use_extra_bufts=options.repack,
    )
