"""What ggml sees here, as the engine's clients get it."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path

from shimmy.engine.types.event import Failed
from shimmy.engine.types.frame import CallFailed, Describe, System
from shimmy.engine.types.info import BackendChoice, BackendInfo, DeviceInfo, SystemInfo
from shimmy.engine.types.options import GPU_BACKENDS, EngineOptions
from shimmy.errors import ConfigError
from shimmy.llama import backend
from shimmy.llama.loader import BackendModule
from shimmy.worker.placement import choose, heard

_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
_AMD_DRIVER = Path("/sys/module/amdgpu/version")


def answer(command: Describe) -> System | CallFailed:
    """Return what `describe` says, or why it cannot."""
    try:
        return System(command.id, describe(retry=command.retry, recheck=command.recheck))
    except Exception as error:  # noqa: BLE001  every failure is reported, none is lost
        return CallFailed(command.id, Failed.of(error))


def describe(*, retry: bool = False, recheck: bool = False) -> SystemInfo:
    """Return the backends, loaded or not, the devices, and what each --gpu-backend would use.

    With `retry`, backends that failed their first use on this machine are tried again,
    with `recheck` all of them.

    Raises:
        BackendError: no backend loads at all.
    """
    backend.init(retry=retry, recheck=recheck)
    modules = backend.modules()
    by_file = {module.file.resolve(): module for module in modules}
    reports = []
    for one in backend.backends():
        module = None if one.file is None else by_file.get(one.file.resolve())
        reports.append(_loaded(one, module))
    reports += [
        BackendInfo(name=module.name, file=module.file.name, loaded=False, problem=module.reason)
        for module in modules
        if not module.loaded
    ]
    devices = [
        DeviceInfo(
            name=device.name,
            description=device.description,
            backend=device.backend,
            kind=device.type.value,
            memory_free=device.memory_free,
            memory_total=device.memory_total,
            device_id=device.device_id,
            driver=_driver(device.backend),
            problem=device.problem,
            caps=asdict(device.caps),
        )
        for device in backend.devices()
    ]
    return SystemInfo(
        llama_cpp=backend.version(),
        backends=reports,
        devices=devices,
        choices=[_choice(flag) for flag in GPU_BACKENDS],
    )


def _loaded(one: backend.Backend, module: BackendModule | None) -> BackendInfo:
    return BackendInfo(
        name=one.name,
        file=None if one.file is None else one.file.name,
        devices=list(one.devices),
        note=heard(module) or None if module is not None and not one.devices else None,
        flash_attn=None if module is None else module.flash_attn,
        features=one.features,
    )


def _choice(flag: str) -> BackendChoice:
    try:
        placement = choose(EngineOptions(model_path="", gpu_backend=flag))
    except ConfigError as error:
        reason = error.message.partition(": ")[2].partition("; --gpu-fallback")[0]
        return BackendChoice(backend=flag, problem=reason)
    return BackendChoice(backend=flag, devices=list(placement.devices))


def _driver(name: str) -> str | None:
    """Return the version of the kernel's driver behind a backend, where the system tells it."""
    try:
        if name == "CUDA":
            found = re.search(r"\b(\d+\.\d+(\.\d+)?)\b", _NVIDIA_DRIVER.read_text())
            return None if found is None else found[1]
        if name == "ROCm":
            return _AMD_DRIVER.read_text().strip() or None
    except OSError:
        pass
    return None
