"""Where the tensors of a loaded model are, as llama.cpp's own bookkeeping has it."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shimmy.engine.types.info import DevicePlacement
from shimmy.llama import backend

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from shimmy.llama.context import Context
    from shimmy.llama.model import Model, TensorPlace

_LAYER = re.compile(r"blk\.(\d+)\.")
_EXPERTS = re.compile(r"\.ffn_(up|down|gate|gate_up)_(ch|)exps")
_HOST = "CPU"
# buffers of host memory whose tensors can be the mapped file itself
_AS_IN_THE_FILE = re.compile(r"CPU(_Mapped)?|.*_Host")
_MIB = 1024 * 1024


@dataclass(slots=True)
class _Share:
    """What one device holds, in bytes by layer."""

    dense: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    experts: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    output: bool = False
    weights: int = 0
    copied: int = 0
    expert_weights: int = 0
    kv: int = 0
    compute: int = 0


def placements(model: Model, context: Context) -> list[DevicePlacement]:
    """Return what lies on each device, GPUs first; a layer is where most of its dense weights are."""
    devices = {
        device.buffer_type: device.name for device in backend.devices() if device.type != "cpu"
    }
    shares: dict[str, _Share] = defaultdict(_Share)
    for tensor in model.tensors():
        _add(shares[_device_of(tensor.buffer, devices)], tensor)
    for use in context.memory_breakdown():
        share = shares[_device_of(use.buffer, devices)]
        share.kv += use.context
        share.compute += use.compute
    layers = _homes({name: share.dense for name, share in shares.items()})
    experts = _homes({name: share.experts for name, share in shares.items()})
    return [
        DevicePlacement(
            device=name,
            layers=[layer for layer, home in layers.items() if home == name],
            experts=[layer for layer, home in experts.items() if home == name],
            output=share.output,
            weights=share.weights,
            expert_weights=share.expert_weights,
            kv=share.kv,
            compute=share.compute,
            copied=share.copied,
        )
        for name, share in sorted(shares.items(), key=lambda item: (item[0] == _HOST, item[0]))
    ]


def offloaded(placed: Iterable[DevicePlacement]) -> int:
    """Return how many layers are on other devices than the CPU; the output counts as one."""
    return sum(len(one.layers) + one.output for one in placed if one.device != _HOST)


def on_host(placed: Iterable[DevicePlacement]) -> bool:
    """Whether the CPU computes: it has layers, the experts of some, or the output."""
    return any(one.device == _HOST and (one.layers or one.experts or one.output) for one in placed)


def is_expert(name: str) -> bool:
    """Whether a tensor holds experts of a mixture: what --cpu-moe keeps in host memory."""
    return _EXPERTS.search(name) is not None


def line(one: DevicePlacement) -> str:
    """Return one device's part of the report, for the log."""
    parts = [f"{len(one.layers)} layers" + (" and the output" if one.output else "")]
    if one.experts:
        parts.append(f"experts of {len(one.experts)} layers")
    sizes = (
        f"{one.weights / _MIB:.1f} MiB of weights",
        f"{one.kv / _MIB:.1f} of KV cache",
        f"{one.compute / _MIB:.1f} to compute",
    )
    return f"{one.device}: {', '.join((*parts, *sizes))}"


def _add(share: _Share, tensor: TensorPlace) -> None:
    share.weights += tensor.bytes
    if not _AS_IN_THE_FILE.fullmatch(tensor.buffer):
        share.copied += tensor.bytes
    found = _LAYER.match(tensor.name)
    if found is None:
        share.output = share.output or tensor.name.startswith(("output.", "output_norm."))
    elif is_expert(tensor.name):
        share.expert_weights += tensor.bytes
        share.experts[int(found[1])] += tensor.bytes
    else:
        share.dense[int(found[1])] += tensor.bytes


def _device_of(buffer: str, devices: dict[str, str]) -> str:
    """Return a buffer's device: `Vulkan0` lies on it, `Vulkan_Host` and `CPU_REPACK` are host memory."""
    fitting = [name for name in devices if buffer.startswith(name)]
    return devices[max(fitting, key=len)] if fitting else _HOST


def _homes(parts: dict[str, dict[int, int]]) -> dict[int, str]:
    """Return where most of each layer is."""
    layers: Sequence[int] = sorted({layer for part in parts.values() for layer in part})
    return {layer: max(parts, key=lambda name: parts[name].get(layer, 0)) for layer in layers}
