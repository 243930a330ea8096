"""Files in the user's cache folder: whole or not there, and no loss when they are gone."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import msgspec


def read(path: Path, kind: Any, *, most: int) -> Any:
    """Return what a file holds, a `kind`; None if it is not there, or larger than `most` bytes."""
    try:
        if path.stat().st_size > most:
            return None
        return msgspec.msgpack.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError, RecursionError):
        return None


def replace(path: Path, value: object) -> None:
    """Write a file in one step.

    Raises:
        OSError: the folder cannot be written; what was there is there still.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.msgpack.encode(value))
        Path(name).replace(path)
    except OSError:
        Path(name).unlink()
        raise
