"""LoRA adapters that somebody named: looked at before a model is loaded for them."""

from __future__ import annotations

from pathlib import Path

from shimmy.errors import GgufError
from shimmy.models.gguf.facts import facts_of
from shimmy.models.gguf.file import read_gguf


def flaw(path: Path) -> str | None:
    """Return why the file cannot be used as a LoRA adapter, a sentence; None if nothing is seen."""
    try:
        kind = facts_of(read_gguf(path)).kind
    except OSError as error:
        return f"adapter {path} cannot be read: {error.strerror or error}; check the path"
    except GgufError as error:
        return f"adapter {path}: {error.message}; {error.remedy}"
    if kind != "adapter":
        return f"{path} is no LoRA adapter, its metadata says {kind}"
    return None
