"""Which adapters a row is computed with.

llama.cpp applies adapters to a whole context, so rows of different sets never share a step; and
cells are of use only to rows of the set that they were computed with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

LoraSet = tuple[tuple[int, float], ...]
"""Numbers of adapters with their scales, in order; those of scale 0 are not in it."""

NO_LORAS: LoraSet = ()


def lora_set(scales: Iterable[tuple[int, float]]) -> LoraSet:
    """Return the set of (number, scale) pairs."""
    return tuple(sorted((i, float(scale)) for i, scale in scales if scale != 0))


def salt(loras: LoraSet) -> bytes:
    """Return what tells cells of this set from others of the same tokens; nothing for none."""
    return msgspec.json.encode(loras) if loras else b""
