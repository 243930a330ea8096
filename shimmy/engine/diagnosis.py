"""Why a GPU is not used, and the command that changes it: from what the system and what ggml report."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

import msgspec

from shimmy.engine.machine import Machine
from shimmy.engine.types.info import BackendInfo, SystemInfo
from shimmy.engine.types.needs import needs

Level = Literal["ok", "note", "problem"]

_GGML_NAMES = {
    "cuda": "cuda",
    "vulkan": "vulkan",
    "opencl": "opencl",
    "hip": "rocm",
    "metal": "mtl",
}
# backends that make sense for a vendor's cards, the best first
_FOR_VENDOR = {
    "NVIDIA": ("cuda", "vulkan"),
    "AMD": ("hip", "vulkan"),
    "Intel": ("vulkan", "sycl", "opencl"),
}
# library (as the dynamic loader names it): what brings it
_PACKAGES = (
    (r"libcuda\.so", "NVIDIA's driver: apt-get install nvidia-driver (in a container: docker run --gpus all)"),
    (r"libcudart\.so\.(\d+)", "CUDA's run-time: pip install nvidia-cuda-runtime, or NVIDIA's toolkit"),
    (r"libcublas(Lt)?\.so\.(\d+)", "cuBLAS: pip install nvidia-cublas, or NVIDIA's toolkit; then LD_LIBRARY_PATH"),
    (r"libvulkan\.so", "the Vulkan loader: apt-get install libvulkan1 mesa-vulkan-drivers"),
    (r"libOpenCL\.so", "the OpenCL loader: apt-get install ocl-icd-libopencl1"),
    (r"lib(amdhip64|hipblas|rocblas)\.so", "AMD's ROCm run-time: https://rocm.docs.amd.com"),
)  # fmt: skip


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at; `fix` is what to do about a problem."""

    level: Level
    subject: str
    text: str
    fix: str | None = None


def diagnose(
    machine: Machine, system: SystemInfo, *, model_bytes: int | None = None
) -> list[Finding]:
    """Return what stands between this machine's GPUs and their use; `model_bytes` asks if a model fits."""
    gpus = [one for one in system.devices if one.kind in ("gpu", "igpu") and one.problem is None]
    findings = [*_cards(machine, system), *_modules(system), *_access(machine)]
    if gpus:
        names = ", ".join(f"{one.name} ({one.description})" for one in gpus)
        findings.insert(0, Finding(level="ok", subject="GPU", text=f"usable: {names}"))
    if model_bytes is not None:
        findings += _fit(system, model_bytes)
    return findings


def _cards(machine: Machine, system: SystemInfo) -> Iterator[Finding]:
    if not machine.cards:
        yield Finding(
            level="note",
            subject="GPU",
            text="no graphics card of NVIDIA, AMD or Intel on the PCI bus",
        )
    built = {one.name.lower() for one in system.backends}
    for vendor in sorted(machine.vendors()):
        wanted = _FOR_VENDOR[vendor]
        cards = [card for card in machine.cards if card.vendor == vendor]
        if not any(_built(flag, built) for flag in wanted):
            yield Finding(
                level="problem",
                subject=vendor,
                text=f"{len(cards)} card(s), but this build has none of the backends for them "
                f"({', '.join(wanted)})",
                fix=f"pip install . -C cmake.define.GGML_{wanted[0].upper()}=ON",
            )
        yield from (
            Finding(
                level="problem",
                subject=f"{vendor} {card.address}",
                text="no kernel driver is bound to the card",
                fix="install the vendor's driver, then restart the machine",
            )
            for card in cards
            if card.driver is None
        )
        yield from (
            Finding(
                level="problem",
                subject=f"{vendor} {card.address}",
                text="the card is bound to nouveau, which cannot compute",
                fix="apt-get install nvidia-driver, then restart the machine",
            )
            for card in cards
            if card.driver == "nouveau"
        )


def _modules(system: SystemInfo) -> Iterator[Finding]:
    for one in system.backends:
        if not one.loaded:
            text = f"did not load: {one.problem}"
            level: Level = "problem"
            # the slower variants of a backend that is in use are no problem
            if "another variant" in (one.problem or "") or "lacks instructions" in (
                one.problem or ""
            ):
                level = "note"
            yield Finding(level=level, subject=one.name, text=text, fix=_fix(one))
        elif one.note is not None or (not one.devices and one.name != "RPC"):
            text = "loaded, but found no device" + (f": {one.note}" if one.note else "")
            yield Finding(level="problem", subject=one.name, text=text, fix=_fix(one))
        if one.flash_attn is not None:
            yield Finding(
                level="note",
                subject=one.name,
                text=f"flash attention is not used: {one.flash_attn}",
                fix="after an update of the driver: shimmy gpu-info --retry-backends",
            )
    for device in system.devices:
        if device.problem is not None:
            yield Finding(
                level="problem",
                subject=device.name,
                text=f"not used: {device.problem}",
                fix="update its driver, then: shimmy gpu-info --retry-backends",
            )


def _fix(one: BackendInfo) -> str | None:
    said = f"{one.problem or ''} {one.note or ''}"
    if "--retry-backends" in said:
        return "update its driver, then: shimmy gpu-info --retry-backends"
    if re.search(r"driver version is insufficient|CUDA driver is a stub", said):
        return (
            "install or update NVIDIA's driver: it is absent, or older than the CUDA of this build"
        )
    for library, package in _PACKAGES:
        if re.search(library, said):
            return package
    flag = next(
        (f for f, name in _GGML_NAMES.items() if name in one.name.lower() or f in one.name.lower()),
        None,
    )
    hint = needs(flag) if flag else None
    return None if hint is None else f"it needs {hint}"


def _access(machine: Machine) -> Iterator[Finding]:
    for node in machine.nodes:
        if not node.accessible:
            yield Finding(
                level="problem",
                subject=node.path,
                text="this user may not open it",
                fix=f"sudo usermod -aG {node.group} $USER, then log in again",
            )
    if "NVIDIA" in machine.vendors() and not any("nvidia" in node.path for node in machine.nodes):
        yield Finding(
            level="problem",
            subject="/dev/nvidia0",
            text="it is not there: the driver is not loaded, or a container was started without the GPU",
            fix="modprobe nvidia, or docker run --gpus all",
        )


def _fit(system: SystemInfo, model_bytes: int) -> Iterator[Finding]:
    chosen = next((one for one in system.choices if one.backend == "auto"), None)
    free = {one.name: one.memory_free for one in system.devices}
    names = [] if chosen is None else chosen.devices
    room = sum(free.get(name, 0) for name in names)
    if not names:
        room = sum(one.memory_free for one in system.devices if one.kind == "cpu")
    where = ", ".join(names) or "host memory"
    sizes = f"{model_bytes / 1e9:.1f} GB of weights, {room / 1e9:.1f} GB free on {where}"
    if model_bytes < room:
        yield Finding(level="ok", subject="model", text=f"the weights fit: {sizes}")
        return
    yield Finding(
        level="problem",
        subject="model",
        text=f"does not fit: {sizes}",
        fix="-ngl N puts only N layers on the GPU, --cpu-moe or --n-cpu-moe N keeps a mixture's "
        "experts off it; else a smaller quantisation"
        if names
        else "a smaller model or quantisation",
    )


def _built(flag: str, built: set[str]) -> bool:
    return any(_GGML_NAMES.get(flag, flag) in name or flag in name for name in built)
