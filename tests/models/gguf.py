"""Writes GGUF files, good and bad, whose headers are whole and whose tensors are nothing."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

from shimmy.models.gguf.types import FORMATS, TENSOR_TYPES, ValueType

ALIGNMENT = 32
Tensor = tuple[str, tuple[int, ...], int]
# one tensor of 32 numbers
WEIGHT: Tensor = ("token_embd.weight", (32,), 0)


def header(
    *pairs: tuple[str, object],
    version: int = 3,
    tensors: Sequence[Tensor] = (),
    n_tensors: int | None = None,
    n_pairs: int | None = None,
) -> bytes:
    """Return a header. A value is a bool, int (uint32), float, str, list of those, or (type, value)."""
    body = b"".join(string(key) + value(item) for key, item in pairs)
    offset = 0
    for name, shape, kind in tensors:
        body += string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)
        offset += padded(size_of(shape, kind))
    counts = (
        len(tensors) if n_tensors is None else n_tensors,
        len(pairs) if n_pairs is None else n_pairs,
    )
    return b"GGUF" + struct.pack("<IQQ", version, *counts) + body


def model(
    architecture: str = "llama",
    kind: str | None = None,
    *,
    fields: dict[str, object] | None = None,
    tensors: Sequence[Tensor] = (WEIGHT,),
    layers: bool = True,
) -> bytes:
    """Return a whole file that says it is a model of `architecture`."""
    pairs: dict[str, object] = {"general.architecture": architecture}
    if kind:
        pairs["general.type"] = kind
    if layers and kind in {None, "model"}:
        pairs[f"{architecture}.block_count"] = 2
    pairs |= fields or {}
    start = header(*pairs.items(), tensors=tensors)
    size = sum(padded(size_of(shape, kind)) for _, shape, kind in tensors)
    return start.ljust(padded(len(start)), b"\0") + bytes(size)


def write(
    path: Path,
    architecture: str = "llama",
    kind: str | None = None,
    extra: int = 0,
    *,
    fields: dict[str, object] | None = None,
    tensors: Sequence[Tensor] = (WEIGHT,),
    layers: bool = True,
) -> Path:
    """Write such a file, and `extra` bytes after it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = model(architecture, kind, fields=fields, tensors=tensors, layers=layers)
    path.write_bytes(content + bytes(extra))
    return path


def write_lora(path: Path, architecture: str = "llama", n_embd: int = 32, n_layer: int = 1) -> Path:
    """Write a LoRA adapter for models of `architecture` and this shape."""
    tensors = []
    for layer in range(n_layer):
        name = f"blk.{layer}.attn_q.weight"
        tensors += [(f"{name}.lora_a", (n_embd, 4), 0), (f"{name}.lora_b", (4, n_embd), 0)]
    return write(path, architecture, "adapter", fields={"adapter.type": "lora"}, tensors=tensors)


def projector(
    n_embd: int | None = 64, *senses: str, fields: dict[str, object] | None = None
) -> bytes:
    """Return a projector for models of this width, as llama.cpp's converter writes it; for images."""
    return model("clip", "mmproj", fields=_clip(n_embd, senses) | (fields or {}))


def write_projector(
    path: Path,
    n_embd: int | None = 64,
    *senses: str,
    fields: dict[str, object] | None = None,
) -> Path:
    """Write such a projector."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(projector(n_embd, *senses, fields=fields))
    return path


def _clip(n_embd: int | None, senses: Sequence[str]) -> dict[str, object]:
    pairs: dict[str, object] = {"clip.projector_type": "gemma3"}
    for sense in senses or ("vision",):
        pairs[f"clip.has_{sense}_encoder"] = True
        if n_embd is not None:
            pairs[f"clip.{sense}.projection_dim"] = n_embd
    return pairs


def string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def value(item: object) -> bytes:
    if isinstance(item, tuple):
        kind, plain = item
        return struct.pack("<I", kind) + FORMATS[kind].pack(plain)
    if isinstance(item, list):
        kind = type_of(item[0]) if item else ValueType.UINT32
        body = b"".join(value(part)[4:] for part in item)
        return struct.pack("<IIQ", ValueType.ARRAY, kind, len(item)) + body
    kind = type_of(item)
    body = string(item) if isinstance(item, str) else FORMATS[kind].pack(item)
    return struct.pack("<I", kind) + body


def type_of(item: object) -> ValueType:
    if isinstance(item, bool):
        return ValueType.BOOL
    if isinstance(item, int):
        return ValueType.UINT32
    return ValueType.FLOAT32 if isinstance(item, float) else ValueType.STRING


def size_of(shape: tuple[int, ...], kind: int) -> int:
    n_elements = 1
    for dimension in shape:
        n_elements *= dimension
    _, block, size = TENSOR_TYPES[kind]
    return n_elements // block * size


def padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
