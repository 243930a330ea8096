"""Which devices a model may use, by backend or by name; the device list decides, not what was compiled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from shimmy.engine.types.options import GPU_BACKENDS, EngineOptions
from shimmy.errors import ConfigError
from shimmy.llama import backend

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shimmy.llama.backend import Device
    from shimmy.llama.loader import BackendModule

# flag: (ggml's name of the backend, the part of its library's name, the option that builds it)
_GGML = {
    "cuda": ("CUDA", "cuda", "GGML_CUDA"),
    "hip": ("ROCm", "hip", "GGML_HIP"),
    "metal": ("MTL", "metal", "GGML_METAL"),
    "sycl": ("SYCL", "sycl", "GGML_SYCL"),
    "musa": ("MUSA", "musa", "GGML_MUSA"),
    "cann": ("CANN", "cann", "GGML_CANN"),
    "vulkan": ("Vulkan", "vulkan", "GGML_VULKAN"),
    "opencl": ("OpenCL", "opencl", "GGML_OPENCL"),
}
_RPC = "RPC"


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """The devices of a load, none being the CPU alone; `note` says what was asked for but not had."""

    backend: str
    devices: tuple[str, ...]
    note: str | None = None


def choose(options: EngineOptions) -> Placement:
    """Return the devices that the options ask for.

    `auto` takes the first backend in the order of `_GGML` that has a device, else the CPU. Devices of RPC
    servers come in front, as in llama.cpp.

    Raises:
        ConfigError: a device or backend that cannot be used; says why and what there is.
    """
    there = [device for device in backend.devices() if device.type in ("gpu", "igpu")]
    if options.devices:
        return _named(options.devices, there)
    wanted = options.gpu_backend.lower()
    if wanted not in GPU_BACKENDS:
        raise ConfigError(
            f"--gpu-backend: {wanted!r} is not one of {', '.join(GPU_BACKENDS)}",
            param="--gpu-backend",
        )
    if wanted == "cpu":
        return Placement(backend="cpu", devices=())
    remote = [device.name for device in there if device.backend == _RPC]
    for flag in _GGML if wanted == "auto" else (wanted,):
        local = _of_backend(flag, there)
        if local:
            return Placement(backend=flag, devices=(*remote, *local))
    if wanted == "auto":
        return Placement(backend="rpc" if remote else "cpu", devices=tuple(remote))
    reason = why_unusable(wanted)
    if not options.gpu_fallback:
        raise ConfigError(
            f"--gpu-backend {wanted}: {reason}; --gpu-fallback takes the CPU instead",
            param="--gpu-backend",
        )
    return Placement(backend="cpu", devices=(), note=f"--gpu-backend {wanted}: {reason}")


def why_unusable(flag: str) -> str | None:
    """Return why a backend of --gpu-backend has no device to use, None if it has one."""
    if flag not in _GGML:
        return None
    name, part, option = _GGML[flag]
    devices = [device for device in backend.devices() if device.backend == name]
    if any(device.problem is None for device in devices):
        return None
    if devices:
        return f"{devices[0].name} failed its trial: {devices[0].problem}"
    built = [module for module in backend.modules() if module.name.partition("-")[0] == part]
    if not built:
        return (
            f"this build has no {flag} backend; build it with: "
            f"pip install . -C cmake.define.{option}=ON"
        )
    if not any(module.loaded for module in built):
        return f"the {flag} backend did not load: {built[0].reason}"
    said = heard(built[0])
    return f"the {flag} backend found no device" + (f": {said}" if said else "")


def heard(module: BackendModule) -> str:
    """Return the last line that a backend without a device logged: mostly the driver's own reason."""
    lines = [line.strip() for line in module.said.splitlines() if line.strip()]
    return next((line.rstrip(".") for line in reversed(lines) if "loaded" not in line), "")


def flash_attn(options: EngineOptions, devices: Sequence[str]) -> tuple[str, str | None]:
    """Return the value of --flash-attn for these devices, and why it is not what was asked for.

    Raises:
        ConfigError: it was asked for, and fails on them.
    """
    backends = {device.backend for device in backend.devices() if device.name in devices}
    for name in sorted(backends):
        reason = backend.no_flash_attn(name)
        if reason is None or options.flash_attn == "off":
            continue
        text = f"flash attention is off: tried on {name}, {reason}"
        if options.flash_attn == "on":
            raise ConfigError(f"--flash-attn on: {text}", param="--flash-attn")
        return "off", text
    return options.flash_attn, None


def possible(options: EngineOptions, chosen: Placement) -> tuple[EngineOptions, list[str]]:
    """Return the options as these devices can have them, and what is not as it was asked for.

    Raises:
        ConfigError: flash attention was asked for, and fails on them.
    """
    attention, reason = flash_attn(options, chosen.devices)
    notes = [note for note in (chosen.note, reason) if note is not None]
    return msgspec.structs.replace(options, flash_attn=attention), notes


def _named(wanted: Sequence[str], there: Sequence[Device]) -> Placement:
    """Take the devices of --device, which may be written in any case; `none` is the CPU."""
    if [name.lower() for name in wanted] == ["none"]:
        return Placement(backend="cpu", devices=())
    known = {device.name.lower(): device for device in there}
    chosen = []
    for name in wanted:
        device = known.get(name.lower())
        if device is None:
            names = ", ".join(device.name for device in there)
            raise ConfigError(
                f"--device: there is no {name!r}; devices: {names or 'none but the CPU'}",
                param="--device",
            )
        chosen.append(device)
    return Placement(
        backend=chosen[0].backend.lower(), devices=tuple(device.name for device in chosen)
    )


def _of_backend(flag: str, there: Sequence[Device]) -> list[str]:
    """Return the usable devices of a backend: its own GPUs, or those in the CPU's package if it has no other."""
    mine = [d for d in there if d.backend == _GGML[flag][0] and d.problem is None]
    discrete = [device.name for device in mine if device.type == "gpu"]
    return discrete or [device.name for device in mine]
