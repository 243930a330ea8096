"""Backend libraries as files: which there are, which of a family suits the machine, why one was left out."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from shimmy.llama import _checks
from shimmy.llama._ffi import lib

# ggml's own order (ggml-backend-reg.cpp), which is the order of the devices
_ORDER = (
    "blas", "zendnn", "cann", "cuda", "hip", "metal", "rpc", "sycl", "vulkan", "virtgpu", "opencl",
    "hexagon", "musa", "openvino", "cpu",
)  # fmt: skip
_CORE = {"libggml-base", "ggml-base"}
_SUFFIXES = {".so", ".dll", ".dylib"}


@dataclass(frozen=True, slots=True)
class ModuleFile:
    """One backend library; `family` is the backend, of which it may be one of several variants."""

    path: Path
    name: str
    family: str


def find(directory: Path) -> list[ModuleFile]:
    """Return the backend libraries of a directory, in the order in which ggml would load them."""
    pattern = "ggml-*.dll" if sys.platform == "win32" else "libggml-*.*"
    found = [
        of(path)
        for path in directory.glob(pattern)
        if path.suffix in _SUFFIXES and path.stem not in _CORE
    ]
    return sorted(found, key=lambda module: (_rank(module.family), module.name))


def of(path: Path) -> ModuleFile:
    """Return what a library's name says: libggml-cpu-haswell.so is a variant of cpu."""
    name = path.stem.removeprefix("lib").removeprefix("ggml-")
    return ModuleFile(path, name, name.partition("-")[0])


def families(directory: Path) -> list[list[ModuleFile]]:
    """Return the libraries by backend, each backend's variants with the best for this CPU first."""
    grouped: dict[str, list[ModuleFile]] = {}
    for module in find(directory):
        grouped.setdefault(module.family, []).append(module)
    return [
        variants if len(variants) == 1 else _by_score(variants) for variants in grouped.values()
    ]


def why_not(path: Path) -> str:
    """Return why ggml left a library out. Loads it: only for one that is known not to crash."""
    import ctypes

    try:
        module = ctypes.CDLL(str(path))
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


def _rank(family: str) -> int:
    return _ORDER.index(family) if family in _ORDER else len(_ORDER)


def _by_score(variants: list[ModuleFile]) -> list[ModuleFile]:
    """Sort by ggml's score; one without a suffix is what ggml takes when no variant fits."""
    scores = {
        module: lib.shm_backend_score(_checks.nul_free("file", str(module.path)))
        for module in variants
    }
    return sorted(
        variants,
        key=lambda module: (scores[module] > 0, module.name != module.family, scores[module]),
        reverse=True,
    )
