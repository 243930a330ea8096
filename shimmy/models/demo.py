"""The model that ships in the package. It is called what it is: a built-in demo model."""

from __future__ import annotations

from pathlib import Path

import msgspec

from shimmy.errors import GgufError
from shimmy.models.discovery import examine
from shimmy.models.entries import entry_of
from shimmy.models.entry import BUILTIN_NOTE, ModelEntry

NAME = "shimmy-demo"


def demo_path() -> Path:
    """Return where the built-in model is, or would be."""
    # Beside this file in a wheel and in an editable install alike: the loader maps the file, so
    # it must be a real one, which importlib.resources alone does not promise.
    return Path(__file__).with_name("demo") / f"{NAME}.gguf"


def demo_entry() -> ModelEntry | None:
    """Return the built-in model; None in a package that was built without it."""
    try:
        entry = entry_of(examine(demo_path()), NAME, "builtin")
    except (OSError, GgufError):
        return None
    return msgspec.structs.replace(entry, note=BUILTIN_NOTE)
