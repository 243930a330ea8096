"""What is settled for one model beforehand: how it is loaded, and how long it stays."""

from __future__ import annotations

from typing import Any

import msgspec

from shimmy.engine.types.options import EngineOptions
from shimmy.models.entry import ModelEntry


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one model; `engine` holds fields of `EngineOptions` that replace the general ones.

    `idle_unload` is in seconds (None: as for all models; inf: never). A `pinned` model stays loaded
    and gives no room to others; a `preload` one is loaded at the start.
    """

    engine: dict[str, Any] = {}
    pinned: bool = False
    preload: bool = False
    idle_unload: float | None = None


NO_PROFILE = Profile()


def options_for(
    entry: ModelEntry, base: EngineOptions, profile: Profile, *, is_default: bool
) -> EngineOptions:
    """Return how to load `entry`; see `asked_for`.

    Raises:
        GgufError: the header says that the model cannot be loaded.
        ConfigError: the projector that was named for it is none, or another model's.
    """
    return entry.options(asked_for(base, profile, is_default=is_default))


def asked_for(base: EngineOptions, profile: Profile, *, is_default: bool) -> EngineOptions:
    """Return what somebody asked for one model; LoRA, projector and template of `base` are the default's."""
    if not is_default:
        # these belong to one model: another has other tensors and another way to talk
        base = msgspec.structs.replace(base, lora=[], mmproj=None, chat_template=None)
    return msgspec.structs.replace(base, **profile.engine)
