"""ggml's backends and devices: the one start-up, what was loaded, what was not and why.

A library is tried in a process of its own before this one loads it for the first time on a machine (`trial`).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from shimmy.errors import BackendError, InvalidRequestError
from shimmy.llama import _checks
from shimmy.llama._ffi import (
    LIB_DIR,
    CData,
    ffi,
    lib,
    log_mark,
    optional_text,
    raise_fault,
    take_text,
    text,
)
from shimmy.llama.loader import BackendModule, Loader
from shimmy.llama.verdicts import Verdicts

# ggml does not lock its registry; this also guards the start-up below
_lock = threading.RLock()
_loader = Loader()


class DeviceType(StrEnum):
    """What a device is, in ggml's words."""

    CPU = "cpu"
    GPU = "gpu"
    IGPU = "igpu"
    ACCEL = "accel"
    META = "meta"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceCaps:
    """What a device can do besides computing."""

    async_compute: bool
    host_buffer: bool
    buffer_from_host_ptr: bool
    events: bool
    mmap_support: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One device as ggml describes it; memory in bytes, as of the call that returned it.

    `problem` says why it must not be used, although it is there: it failed its trial.
    """

    name: str
    description: str
    type: DeviceType
    backend: str
    buffer_type: str
    memory_free: int
    memory_total: int
    device_id: str | None
    caps: DeviceCaps
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """One registered backend; `features` are its build options or the CPU's instruction sets."""

    name: str
    file: Path | None
    devices: tuple[str, ...]
    features: dict[str, str]


_TYPES = {
    lib.GGML_BACKEND_DEVICE_TYPE_CPU: DeviceType.CPU,
    lib.GGML_BACKEND_DEVICE_TYPE_GPU: DeviceType.GPU,
    lib.GGML_BACKEND_DEVICE_TYPE_IGPU: DeviceType.IGPU,
    lib.GGML_BACKEND_DEVICE_TYPE_ACCEL: DeviceType.ACCEL,
    lib.GGML_BACKEND_DEVICE_TYPE_META: DeviceType.META,
}


def init(*, retry: bool = False, recheck: bool = False) -> None:
    """Load the backends that lie beside the extension; any thread, only the first call works.

    With `retry`, those that failed their trial before are tried again; with `recheck`, all.

    Raises `BackendError` when that leaves no device to compute on.
    """
    with _lock:
        if not _loader.directories:
            if recheck:
                Verdicts().forget()
            _load_all(LIB_DIR, retry=retry)


def init_only(files: Sequence[Path]) -> None:
    """Load these libraries instead of looking for any, and without a trial: for the process of one."""
    with _lock:
        _loader.directories.append(LIB_DIR)
        for file in files:
            lib.shm_backend_load(_checks.nul_free("file", str(file)), ffi.NULL)
        lib.llama_backend_init()


def load_dir(directory: str | Path) -> tuple[Backend, ...]:
    """Load the best backend modules of another directory too; before any model is loaded."""
    with _lock:
        init()
        before = {backend.name for backend in backends()}
        _load_all(Path(directory), retry=False)
        return tuple(backend for backend in backends() if backend.name not in before)


def load_module(file: str | Path) -> Backend:
    """Load one backend module; raises `BackendError` with the loader's reason."""
    with _lock:
        init()
        mark = log_mark()
        reg = lib.shm_backend_load(_checks.nul_free("file", str(file)), ffi.NULL)
        if reg == ffi.NULL:
            raise_fault("could not load the backend", mark=mark, error=BackendError)
        return _backend(reg)


def add_rpc_server(endpoint: str) -> tuple[Device, ...]:
    """Add the devices of an RPC server at HOST:PORT; before the models that shall use them."""
    with _lock:
        init()
        mark, before = log_mark(), {device.name for device in devices()}
        if lib.shm_rpc_add_server(_checks.nul_free("endpoint", endpoint)) == lib.SHM_FAULT:
            raise_fault(f"RPC server {endpoint}", mark=mark, error=BackendError)
        return tuple(device for device in devices() if device.name not in before)


def devices() -> tuple[Device, ...]:
    """Return all devices; asking a CUDA device for its memory creates a CUDA context."""
    with _lock:
        init()
        return tuple(
            _device(lib.ggml_backend_dev_get(i)) for i in range(lib.ggml_backend_dev_count())
        )


def device(name: str) -> Device:
    """Return one device; raises `InvalidRequestError` if there is none of that name."""
    return _device(device_pointer(name))


def backends() -> tuple[Backend, ...]:
    """Return the registered backends, in the order that gives their devices precedence."""
    with _lock:
        init()
        return tuple(
            _backend(lib.ggml_backend_reg_get(i)) for i in range(lib.ggml_backend_reg_count())
        )


def modules() -> tuple[BackendModule, ...]:
    """Return every backend library that lies in the module directories, with its state.

    Diagnosing those that are not in use loads them for a moment: call it for reports, not often.
    """
    with _lock:
        init()
        return _loader.modules()


def no_flash_attn(backend_name: str) -> str | None:
    """Return why flash attention must not be used on a backend's devices, None if it may."""
    with _lock:
        init()
        return _loader.no_flash_attn(backend_name)


def registered(name: str) -> CData:
    """Return the native backend of that name, for this package."""
    with _lock:
        init()
        for i in range(lib.ggml_backend_reg_count()):
            reg = lib.ggml_backend_reg_get(i)
            if text(lib.ggml_backend_reg_name(reg)) == name:
                return reg
    raise BackendError(f"there is no backend '{name}'")


def version() -> str:
    """Return llama.cpp's build, such as "b10605", or what else is known of the tree it was made of."""
    build = int(lib.shm_llama_build())
    return f"b{build}" if build else f"{text(lib.llama_version())} ({text(lib.shm_llama_commit())})"


def system_info() -> str:
    """Return llama.cpp's one line about the CPU backend's features."""
    with _lock:  # the text is in a static buffer
        init()
        return text(lib.llama_print_system_info())


def device_pointer(name: str) -> CData:
    """Return the native device of that name, for this package."""
    with _lock:
        init()
        known = []
        for i in range(lib.ggml_backend_dev_count()):
            device = lib.ggml_backend_dev_get(i)
            known.append(text(lib.ggml_backend_dev_name(device)))
            if known[-1].lower() == name.lower():
                return device
    raise InvalidRequestError(
        f"there is no device '{name}', only: {', '.join(known)}", param="devices"
    )


def buffer_types() -> dict[str, CData]:
    """Return the native buffer types that tensors can be placed in, by name, for this package."""
    with _lock:
        init()
        found = {}
        for i in range(lib.ggml_backend_dev_count()):
            buffer_type = lib.ggml_backend_dev_buffer_type(lib.ggml_backend_dev_get(i))
            if buffer_type != ffi.NULL:
                found[text(lib.ggml_backend_buft_name(buffer_type))] = buffer_type
        return found


def _load_all(directory: Path, *, retry: bool) -> None:
    _loader.load(directory, retry=retry)
    if lib.ggml_backend_dev_count() == 0:
        _loader.directories.remove(directory)
        there = sorted(file.name for file in directory.glob("*")) if directory.is_dir() else []
        raise BackendError(
            f"no backend could be loaded from {directory}, which holds: "
            f"{', '.join(there) or 'nothing'}; reinstall shimmy",
            log=_loader.refusals(),
        )
    lib.llama_backend_init()
    if lib.llama_max_parallel_sequences() != _checks.MAX_SEQ:
        raise BackendError(f"llama.cpp's LLAMA_MAX_SEQ is not {_checks.MAX_SEQ}")


def _device(pointer: CData) -> Device:
    props = ffi.new("struct ggml_backend_dev_props *")
    lib.ggml_backend_dev_get_props(pointer, props)
    name = text(props.name)
    return Device(
        name=name,
        description=text(props.description),
        type=_TYPES[props.type],
        backend=text(lib.ggml_backend_reg_name(lib.ggml_backend_dev_backend_reg(pointer))),
        buffer_type=text(lib.ggml_backend_buft_name(lib.ggml_backend_dev_buffer_type(pointer))),
        memory_free=int(props.memory_free),
        memory_total=int(props.memory_total),
        device_id=optional_text(props.device_id),
        caps=DeviceCaps(
            async_compute=bool(getattr(props.caps, "async")),
            host_buffer=bool(props.caps.host_buffer),
            buffer_from_host_ptr=bool(props.caps.buffer_from_host_ptr),
            events=bool(props.caps.events),
            mmap_support=bool(props.caps.mmap_support),
        ),
        problem=_loader.fault_of(name),
    )


def _backend(reg: CData) -> Backend:
    file = take_text(lib.shm_backend_file(reg), "finding the backend's file")
    pointers = (
        lib.ggml_backend_reg_dev_get(reg, i) for i in range(lib.ggml_backend_reg_dev_count(reg))
    )
    return Backend(
        name=text(lib.ggml_backend_reg_name(reg)),
        file=Path(file) if file else None,
        devices=tuple(text(lib.ggml_backend_dev_name(pointer)) for pointer in pointers),
        features=json.loads(take_text(lib.shm_backend_features(reg), "reading the features")),
    )
