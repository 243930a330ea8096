"""What ggml sees here, as the engine's clients get it."""

from __future__ import annotations

from dataclasses import asdict

from shimmy.engine.types.info import BackendInfo, DeviceInfo, SystemInfo
from shimmy.llama import backend


def describe() -> SystemInfo:
    """Return the backends, loaded or not, and the devices.

    Raises:
        BackendError: no backend loads at all.
    """
    loaded = {one.name.lower(): one for one in backend.backends()}
    reports = [
        BackendInfo(
            name=one.name,
            file=None if one.file is None else one.file.name,
            features=one.features,
        )
        for one in loaded.values()
    ]
    reports += [
        BackendInfo(name=module.name, file=module.file.name, loaded=False, problem=module.reason)
        for module in backend.modules()
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
            caps=asdict(device.caps),
        )
        for device in backend.devices()
    ]
    return SystemInfo(llama_cpp=backend.version(), backends=reports, devices=devices)
