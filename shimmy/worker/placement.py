"""Which devices a model may use."""

from __future__ import annotations

from shimmy.engine.types.options import GPU_BACKENDS, EngineOptions
from shimmy.errors import ConfigError
from shimmy.llama import backend


def choose_devices(options: EngineOptions) -> list[str] | None:
    """Return device names; None leaves the choice to llama.cpp, an empty list is the CPU alone.

    Raises:
        ConfigError: a device or backend that is not there; the message lists those that are.
    """
    there = [device for device in backend.devices() if device.type in ("gpu", "igpu")]
    names = [device.name for device in there]
    if options.devices:
        for name in options.devices:
            if name not in names:
                raise ConfigError(
                    f"--device: there is no {name!r}; devices: {', '.join(names) or 'none'}",
                    param="--device",
                )
        return list(options.devices)
    wanted = options.gpu_backend.lower()
    if wanted not in GPU_BACKENDS:
        raise ConfigError(
            f"--gpu-backend: {wanted!r} is not one of {', '.join(GPU_BACKENDS)}",
            param="--gpu-backend",
        )
    if wanted == "auto":
        return None
    if wanted == "cpu":
        return []
    chosen = [device.name for device in there if device.backend.lower() == _REGISTRY[wanted]]
    if not chosen:
        raise ConfigError(
            f"--gpu-backend {wanted}: no such device here; `shimmy gpu-info` shows what there is",
            param="--gpu-backend",
        )
    return chosen


# ggml's registries have names of their own
_REGISTRY = {
    "cuda": "cuda",
    "vulkan": "vulkan",
    "opencl": "opencl",
    "metal": "metal",
    "hip": "rocm",
}
