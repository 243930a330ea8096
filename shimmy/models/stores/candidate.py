"""A file that may be a model, as a store names it; or why a file is none."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Store = Literal["folder", "huggingface", "ollama"]


class Extras(msgspec.Struct, frozen=True, kw_only=True):
    """What a store keeps beside a model: paths, texts, and default parameters by Ollama's names.

    `template` is in Ollama's own language, not Jinja.
    """

    lora: tuple[str, ...] = ()
    projector: str | None = None
    template: str | None = None
    system: str | None = None
    parameters: dict[str, Any] = {}


NO_EXTRAS = Extras()


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A file to look into. `stem` is its name if no other model has it.

    `folders` tell it from others of that name, the nearest first; `repo` is its home on a hub.
    """

    path: str
    stem: str
    store: Store = "folder"
    aliases: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    repo: str | None = None
    extras: Extras = NO_EXTRAS


class Skipped(msgspec.Struct, frozen=True, kw_only=True):
    """A file or folder that looks like a model and cannot be used, and why."""

    path: str
    reason: str
