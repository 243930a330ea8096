"""A sequence that lies in the cache: its tokens, and the runs of cells that it shares with others."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shimmy.worker.lora_set import NO_LORAS, LoraSet

if TYPE_CHECKING:
    from collections.abc import Sequence

WORD = 4
"""Bytes of a token."""


def prefix_key(prompt: Sequence[int]) -> bytes:
    """Return what a prompt is looked up by: its tokens but the last, which is always left to feed."""
    return array("i", prompt[:-1]).tobytes()


def tokens_of(key: bytes | bytearray) -> list[int]:
    """Return the tokens that bytes like a resident's stand for."""
    return array("i", key).tolist()


@dataclass(slots=True, eq=False)
class Span:
    """A run of `n` cells that `n_holders` sequences hold together, `n_running` of which run."""

    n: int
    n_holders: int = 1
    n_running: int = 1


@dataclass(slots=True, eq=False)
class Resident:
    """A sequence in the cache: its tokens, as little-endian int32, and the spans they lie in.

    `n_hidden` more cells hold what a context shift has moved: no other prompt may use those. All
    were computed with the adapters of `loras`.
    """

    seq_id: int
    running: bool
    used: int
    tokens: bytearray = field(default_factory=bytearray)
    spans: list[Span] = field(default_factory=list)
    n_hidden: int = 0
    loras: LoraSet = NO_LORAS

    @property
    def n_tokens(self) -> int:
        """Tokens of the sequence that are in cells, and known to be these."""
        return len(self.tokens) // WORD


def common(wanted: bytes, have: bytes | bytearray) -> int:
    """Return how many first tokens two sequences have in common."""
    n = min(len(wanted), len(have)) // WORD
    if n == 0 or wanted[:WORD] != have[:WORD]:
        return 0
    low, high = 1, n
    view = memoryview(have)
    target = memoryview(wanted)
    while low < high:
        middle = (low + high + 1) // 2
        if target[low * WORD : middle * WORD] == view[low * WORD : middle * WORD]:
            low = middle
        else:
            high = middle - 1
    view.release()
    return low
