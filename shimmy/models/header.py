"""The first bytes of a GGUF file: enough to tell a model from something else. Bytes are hostile.

Reads one block, no more. The whole header is the worker's business.
"""

from __future__ import annotations

import os
import stat
import struct

import msgspec

BLOCK = 64 * 1024
MAGIC = b"GGUF"
# Both keys are among the first in every file that llama.cpp's own converters write.
MAX_PAIRS = 64

_STRING = 8
_ARRAY = 9
# Bytes of a value, by GGUF type number.
_WIDTHS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

# Models that turn text into vectors, or something else into tokens: they cannot hold a talk.
ENCODERS = frozenset(
    {
        "bert",
        "eurobert",
        "gemma-embedding",
        "jina-bert-v2",
        "jina-bert-v3",
        "llama-embed",
        "modern-bert",
        "neo-bert",
        "nomic-bert",
        "nomic-bert-moe",
        "t5encoder",
        "wavtokenizer-dec",
    }
)


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What the header's first pairs say. `kind` is `general.type`: model, adapter, mmproj, ..."""

    n_tensors: int
    architecture: str | None = None
    kind: str = "model"

    @property
    def is_model(self) -> bool:
        """Whether this file can be loaded by itself (no adapter, projector or bare vocabulary)."""
        return self.kind == "model" and self.architecture != "clip" and self.n_tensors > 0


def read_header(path: str | os.PathLike[str]) -> Header | None:
    """Return the start of a GGUF header; None for any other file.

    Raises:
        OSError: the file cannot be read.
    """
    # O_NONBLOCK: a pipe that is called x.gguf must not hold us up.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        return _parse(os.read(descriptor, BLOCK))
    finally:
        os.close(descriptor)


def _parse(block: bytes) -> Header | None:
    if len(block) < 24 or block[:4] != MAGIC:
        return None
    version, n_tensors, n_pairs = struct.unpack_from("<IQQ", block, 4)
    # 1 had 32-bit counts and is refused by llama.cpp; a byte-swapped file has a huge version
    if version not in (2, 3):
        return None
    found: dict[bytes, str] = {}
    offset = 24
    try:
        for _ in range(min(n_pairs, MAX_PAIRS)):
            key, offset = _string(block, offset)
            (kind,) = struct.unpack_from("<I", block, offset)
            offset += 4
            if kind == _STRING:
                value, offset = _string(block, offset)
                if key in {b"general.architecture", b"general.type"}:
                    found[key] = value.decode("utf-8", "replace")
            elif kind == _ARRAY:
                offset = _skip_array(block, offset)
            else:
                offset += _WIDTHS[kind]
            if len(found) == 2:
                break
    except (struct.error, KeyError, ValueError):
        pass  # beyond the block, or nonsense: what was found so far stands, the worker judges
    return Header(
        n_tensors=n_tensors,
        architecture=found.get(b"general.architecture"),
        kind=found.get(b"general.type", "model"),
    )


def _string(block: bytes, offset: int) -> tuple[bytes, int]:
    (length,) = struct.unpack_from("<Q", block, offset)
    offset += 8
    if length > len(block) - offset:
        raise ValueError
    return block[offset : offset + length], offset + length


def _skip_array(block: bytes, offset: int) -> int:
    kind, count = struct.unpack_from("<IQ", block, offset)
    offset += 12
    if kind == _STRING:
        for _ in range(count):
            _, offset = _string(block, offset)
        return offset
    offset += _WIDTHS[kind] * int(count)
    if offset > len(block):
        raise ValueError
    return offset
