"""The tensor table of a GGUF header."""

from __future__ import annotations

import math
from struct import Struct

import msgspec

from shimmy.errors import GgufError
from shimmy.models.gguf.types import TENSOR_TYPES, TensorType
from shimmy.models.gguf.window import Window

MAX_TENSORS = 32_768
# ggml's GGML_MAX_NAME (with the closing zero) and GGML_MAX_DIMS.
MAX_NAME = 64
MAX_DIMS = 4

_U32 = Struct("<I")
_U64 = Struct("<Q")


class Tensor(msgspec.Struct, frozen=True, kw_only=True):
    """One tensor: ggml's order of dimensions (the contiguous one first), sizes in bytes.

    `offset` counts from the beginning of the file's tensor data.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    offset: int
    size: int

    @property
    def n_elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


def read_tensors(window: Window, n_tensors: int, alignment: int) -> list[Tensor]:
    """Read the table. Offsets are held to be contiguous, as llama.cpp asks for.

    Raises:
        GgufError: a row that llama.cpp would refuse.
    """
    if n_tensors > MAX_TENSORS:
        raise GgufError(f"it has {n_tensors} tensors; {MAX_TENSORS} is the limit")
    tensors: dict[str, Tensor] = {}
    end = 0
    for number in range(n_tensors):
        tensor = _tensor(window, number)
        if tensor.name in tensors:
            raise GgufError(f"the tensor {tensor.name!r} is there twice")
        if tensor.offset != end:
            raise GgufError(f"the tensor {tensor.name!r} is at {tensor.offset} instead of {end}")
        end += -(-tensor.size // alignment) * alignment
        if end >= 2**63:
            raise GgufError("its tensors are larger than any file")
        tensors[tensor.name] = tensor
    return list(tensors.values())


def _tensor(window: Window, number: int) -> Tensor:
    length = window.unpack(_U64)
    if length >= MAX_NAME:
        raise GgufError(f"the name of tensor {number} is {length} bytes long")
    name = window.take(length).decode("utf-8", "replace")
    n_dims = window.unpack(_U32)
    if n_dims > MAX_DIMS:
        raise GgufError(f"the tensor {name!r} has {n_dims} dimensions; {MAX_DIMS} is the limit")
    shape = tuple(window.unpack(_U64) for _ in range(n_dims))
    n_elements = math.prod(shape)
    if max(shape, default=0) >= 2**63 or n_elements >= 2**63:
        raise GgufError(f"the tensor {name!r} has more elements than can be counted")
    kind = _type(window, name)
    if (shape[0] if shape else 1) % kind.block:
        raise GgufError(f"the rows of tensor {name!r} are no multiple of {kind.name}'s blocks")
    return Tensor(
        name=name,
        type=kind.name,
        shape=shape,
        offset=window.unpack(_U64),
        size=n_elements // kind.block * kind.size,
    )


def _type(window: Window, name: str) -> TensorType:
    number = window.unpack(_U32)
    try:
        return TENSOR_TYPES[number]
    except KeyError:
        raise GgufError(
            f"the tensor {name!r} has type {number}, which this version does not know"
        ) from None
