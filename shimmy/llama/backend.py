"""ggml's backends and devices: the one start-up, what was loaded, what was not and why."""

from __future__ import annotations

import ctypes
import json
import sys
import threading
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from shimmy.errors import BackendError, InvalidRequestError
from shimmy.llama import _checks
from shimmy.llama._ffi import (
    LIB_DIR,
    CData,
    check,
    ffi,
    lib,
    log_mark,
    optional_text,
    raise_fault,
    take_text,
    text,
)

# ggml does not lock its registry; this also guards the start-up below
_lock = threading.RLock()
_module_dirs: list[Path] = []


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
    """One device as ggml describes it; memory in bytes, as of the call that returned it."""

    name: str
    description: str
    type: DeviceType
    backend: str
    buffer_type: str
    memory_free: int
    memory_total: int
    device_id: str | None
    caps: DeviceCaps


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """One registered backend; `features` are its build options or the CPU's instruction sets."""

    name: str
    file: Path | None
    devices: tuple[str, ...]
    features: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendModule:
    """One backend library that was built; `reason` says why it is not in use, None if it is."""

    name: str
    file: Path
    loaded: bool
    reason: str | None


_TYPES = {
    lib.GGML_BACKEND_DEVICE_TYPE_CPU: DeviceType.CPU,
    lib.GGML_BACKEND_DEVICE_TYPE_GPU: DeviceType.GPU,
    lib.GGML_BACKEND_DEVICE_TYPE_IGPU: DeviceType.IGPU,
    lib.GGML_BACKEND_DEVICE_TYPE_ACCEL: DeviceType.ACCEL,
    lib.GGML_BACKEND_DEVICE_TYPE_META: DeviceType.META,
}


def init() -> None:
    """Load the backends that lie beside the extension; any thread, only the first call works.

    Raises `BackendError` when that leaves no device to compute on.
    """
    with _lock:
        if not _module_dirs:
            _load_all(LIB_DIR)


def load_dir(directory: str | Path) -> tuple[Backend, ...]:
    """Load the best backend modules of another directory too; before any model is loaded."""
    with _lock:
        init()
        before = {backend.name for backend in backends()}
        _load_all(Path(directory))
        return tuple(backend for backend in backends() if backend.name not in before)


def load_module(file: str | Path) -> Backend:
    """Load one backend module; raises `BackendError` with the loader's reason."""
    with _lock:
        init()
        mark = log_mark()
        reg = lib.shm_backend_load(_checks.nul_free("file", str(file)))
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
        used = {backend.file.resolve() for backend in backends() if backend.file is not None}
        files = sorted(file for directory in _module_dirs for file in _module_files(directory))
        found = []
        for file in files:
            loaded = file.resolve() in used
            found.append(
                BackendModule(
                    name=file.stem.removeprefix("lib").removeprefix("ggml-"),
                    file=file,
                    loaded=loaded,
                    reason=None if loaded else _why_not(file),
                )
            )
        return tuple(found)


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


def _load_all(directory: Path) -> None:
    mark = log_mark()
    _module_dirs.append(directory)
    # A missing directory is no error to ggml: a build without modules has its backends linked in.
    check(
        lib.shm_backend_load_dir(_checks.nul_free("directory", str(directory))),
        f"loading the backends in {directory}",
        mark=mark,
    )
    lib.llama_backend_init()
    if lib.ggml_backend_dev_count() == 0:
        _module_dirs.remove(directory)
        there = sorted(file.name for file in directory.glob("*")) if directory.is_dir() else []
        raise BackendError(
            f"no backend could be loaded from {directory}, which holds: "
            f"{', '.join(there) or 'nothing'}; reinstall shimmy"
        )
    if lib.llama_max_parallel_sequences() != _checks.MAX_SEQ:
        raise BackendError(f"llama.cpp's LLAMA_MAX_SEQ is not {_checks.MAX_SEQ}")


def _device(pointer: CData) -> Device:
    props = ffi.new("struct ggml_backend_dev_props *")
    lib.ggml_backend_dev_get_props(pointer, props)
    return Device(
        name=text(props.name),
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


def _module_files(directory: Path) -> list[Path]:
    core = {"libggml-base", "ggml-base"}
    pattern = "ggml-*.dll" if sys.platform == "win32" else "libggml-*.*"
    return [
        file
        for file in directory.glob(pattern)
        if file.suffix in {".so", ".dll", ".dylib"} and file.stem not in core
    ]


def _why_not(file: Path) -> str:
    """Return why ggml left a module out; its own loader is silent in release builds."""
    try:
        module = ctypes.CDLL(str(file))
    except OSError as error:  # the dynamic loader's words: which driver library is missing
        return str(error)
    score = getattr(module, "ggml_backend_score", None)
    if score is not None and score() == 0:
        return "this CPU lacks instructions that the module was built for"
    start = getattr(module, "ggml_backend_init", None)
    if start is None:
        return "not a backend module: it has no ggml_backend_init"
    start.restype = ctypes.c_void_p
    if start() is None:
        return "its driver was found, but refused to start"
    return "another variant of this backend suits the machine better"
