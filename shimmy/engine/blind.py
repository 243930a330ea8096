"""A worker that died with a projector which only lay beside the model: what is tried then, and what is said of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from shimmy.engine.types.options import EngineOptions


def blinded(options: EngineOptions, reason: str) -> tuple[EngineOptions, str] | None:
    """Return the options of a load without the projector, and a note; None if there was none, or it was asked for.

    `reason` is how the worker died.
    """
    mmproj = options.mmproj
    if mmproj is None or options.mmproj_required:
        return None
    note = (
        f"the model sees no images: a load with the projector {mmproj} ended the worker ({reason}); "
        f"--mmproj {mmproj} asks for it all the same"
    )
    return msgspec.structs.replace(options, mmproj=None), note
