"""The header of one GGUF file."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from struct import Struct

from shimmy.errors import GgufError
from shimmy.models.gguf.metadata import Metadata, read_metadata
from shimmy.models.gguf.tensors import Tensor, read_tensors
from shimmy.models.gguf.types import ValueType
from shimmy.models.gguf.window import Window

MAGIC = b"GGUF"
# 1 had 32-bit counts and is refused by llama.cpp as well.
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32

_ALIGNMENT = "general.alignment"
_U32 = Struct("<I")
_U64 = Struct("<Q")


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufFile:
    """What a header says. Sizes and offsets are in bytes; `size` is the file's."""

    version: int
    size: int
    metadata: Metadata
    tensors: list[Tensor]
    data_offset: int

    @property
    def end(self) -> int:
        """How long the file must be to hold all of its tensors."""
        if not self.tensors:
            return self.data_offset
        return self.data_offset + max(tensor.offset + tensor.size for tensor in self.tensors)


def read_gguf(path: str | os.PathLike[str]) -> GgufFile:
    """Read the header of a GGUF file: in bounded time and memory, whatever the file holds.

    Raises:
        GgufError: it is not GGUF, or not as llama.cpp would take it.
        OSError: the file cannot be read.
    """
    # O_NONBLOCK: a pipe that is called x.gguf must not hold us up
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            is_folder = stat.S_ISDIR(status.st_mode)
            raise GgufError(
                "it is a folder" if is_folder else "it is not a file",
                remedy="name the .gguf file" + (" in it" if is_folder else ""),
            )
        with open(descriptor, "rb", buffering=0, closefd=False) as file:
            return _read(Window(file, status.st_size))
    finally:
        os.close(descriptor)


def _read(window: Window) -> GgufFile:
    version, n_tensors, n_pairs = _head(window)
    metadata = read_metadata(window, n_pairs)
    alignment = _alignment(metadata)
    tensors = read_tensors(window, n_tensors, alignment)
    return GgufFile(
        version=version,
        size=window.size,
        metadata=metadata,
        tensors=tensors,
        data_offset=-(-window.position // alignment) * alignment,
    )


def _head(window: Window) -> tuple[int, int, int]:
    if window.size < len(MAGIC) or window.take(len(MAGIC)) != MAGIC:
        raise GgufError(
            "it is not a GGUF model file", remedy="convert it first, or choose another file"
        )
    version = window.unpack(_U32)
    if version not in VERSIONS:
        if int.from_bytes(version.to_bytes(4, "little"), "big") in VERSIONS:
            raise GgufError("it is written for machines of the other byte order")
        raise GgufError(f"it is version {version} of the format; 2 and 3 can be read")
    return version, window.unpack(_U64), window.unpack(_U64)


def _alignment(metadata: Metadata) -> int:
    field = metadata.fields.get(_ALIGNMENT)
    if field is None:
        return DEFAULT_ALIGNMENT
    value = field.value
    if field.type is not ValueType.UINT32 or not isinstance(value, int):
        raise GgufError(f"{_ALIGNMENT} is not a 32-bit number")
    if value == 0 or value & (value - 1):
        raise GgufError(f"{_ALIGNMENT} {value} is not a power of two")
    return value
