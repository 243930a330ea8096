"""The model that ships in the package. It is called what it is: a built-in demo model."""

from __future__ import annotations

from pathlib import Path

from shimmy.models.entry import BUILTIN_NOTE, ModelEntry
from shimmy.models.header import read_header

NAME = "shimmy-demo"


def demo_path() -> Path:
    """Return where the built-in model is, or would be."""
    # Beside this file in a wheel and in an editable install alike: the loader maps the file, so
    # it must be a real one, which importlib.resources alone does not promise.
    return Path(__file__).with_name("demo") / f"{NAME}.gguf"


def demo_entry() -> ModelEntry | None:
    """Return the built-in model; None in a package that was built without it."""
    path = demo_path()
    try:
        status = path.stat()
        header = read_header(path)
    except OSError:
        return None
    return ModelEntry(
        name=NAME,
        path=str(path),
        size=status.st_size,
        source="builtin",
        modified=int(status.st_mtime),
        note=BUILTIN_NOTE,
        architecture=header.architecture if header else None,
    )
