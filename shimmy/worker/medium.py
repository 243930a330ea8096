"""A prompt as the model reads it: tokens, and media that stand in the place of some."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shimmy.llama.projector import Picture
    from shimmy.worker.pictures import Seen


@dataclass(frozen=True, slots=True)
class Medium:
    """Embeddings in the place of the tokens from `start` to `end`, excluded: a piece of a picture.

    Those tokens are all the same number below 0, which no other medium has: so prompts that begin
    with the same media begin with the same tokens.
    """

    start: int
    end: int
    picture: Picture
    piece: int


@dataclass(frozen=True, slots=True)
class Reading:
    """A prompt's tokens and its media, in their order; `seen` is to be computed before they are fed."""

    tokens: list[int]
    media: list[Medium] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)


def n_text(tokens: bytes | bytearray) -> int:
    """Return how many first tokens (little-endian int32) are none of a medium's."""
    signs = tokens[3::4]
    if signs.isascii():  # a sequence without media, found out at the speed of a copy
        return len(signs)
    return next(i for i, byte in enumerate(signs) if byte > 127)
