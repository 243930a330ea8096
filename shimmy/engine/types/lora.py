"""The adapters of a loaded model as a worker tells of them."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from shimmy.errors import InvalidRequestError


class LoraInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One adapter: its number, its file, and the scale for requests that ask for none."""

    id: int
    path: str
    scale: float


MAX_SCALE = 1000.0
"""Further from 0 nothing but noise comes out."""


def check_scales(scales: Mapping[int, float]) -> None:
    """Raise `InvalidRequestError` for what cannot be an adapter's number or scale."""
    for i, scale in scales.items():
        if i < 0:
            raise InvalidRequestError(f"lora: id must be 0 or more, got {i}", param="lora")
        if not -MAX_SCALE <= scale <= MAX_SCALE:
            raise InvalidRequestError(
                f"lora: scale must be between {-MAX_SCALE:g} and {MAX_SCALE:g}, got {scale}",
                param="lora",
            )
