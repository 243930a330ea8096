"""Writes GGUF headers, good and bad, for tests that never load them."""

from __future__ import annotations

import struct
from pathlib import Path


def header(
    *pairs: tuple[str, object], version: int = 3, n_tensors: int = 1, n_pairs: int | None = None
) -> bytes:
    """Return a header with string and uint32 pairs (a list becomes an array of strings)."""
    body = b"".join(_string(key) + _value(value) for key, value in pairs)
    count = len(pairs) if n_pairs is None else n_pairs
    return b"GGUF" + struct.pack("<IQQ", version, n_tensors, count) + body


def write(path: Path, architecture: str = "llama", kind: str | None = None, extra: int = 0) -> Path:
    """Write a file that says it is a model of `architecture`."""
    pairs: list[tuple[str, object]] = [("general.architecture", architecture)]
    if kind:
        pairs.append(("general.type", kind))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header(*pairs) + bytes(extra))
    return path


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: object) -> bytes:
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, list):
        items = b"".join(_string(item) for item in value)
        return struct.pack("<IIQ", 9, 8, len(value)) + items
    return struct.pack("<I", 8) + _string(str(value))
