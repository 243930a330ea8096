"""Slots as a worker tells of them, and what can be done with what their requests leave."""

from __future__ import annotations

from typing import Literal

import msgspec

SlotVerb = Literal["save", "restore", "erase"]


class SlotInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One slot; sizes in tokens.

    `n_past` counts what is in cells: of the running request, else of what the last one left.
    `request_id`, `n_prompt` and `n_cached` are the running request's.
    """

    id: int
    n_ctx: int
    is_processing: bool
    n_past: int
    request_id: int | None = None
    n_prompt: int = 0
    n_cached: int = 0
    n_generated: int = 0


class SlotDone(msgspec.Struct, frozen=True, kw_only=True):
    """What an action moved: tokens, bytes of the file (0: there is none), milliseconds."""

    n_tokens: int
    n_bytes: int
    ms: float
