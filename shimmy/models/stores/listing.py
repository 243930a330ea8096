"""The names in one folder."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

UNFINISHED = "a download that is not finished"

_PARTIAL = (
    ".part",
    ".partial",
    ".incomplete",
    ".crdownload",
    ".download",
    ".downloading",
    ".downloadinprogress",
    ".tmp",
)
# aria2 gives the file its full size at once and keeps the progress beside it
_CONTROL = ".aria2"


class Listing(msgspec.Struct, frozen=True):
    """The names in a folder, sorted; links count as what they lead to.

    `controlled` are the files that aria2 still writes.
    """

    files: list[str]
    folders: list[str]
    controlled: frozenset[str] = frozenset()

    def is_unfinished(self, name: str) -> bool:
        """Whether a file is a GGUF that some program still downloads."""
        lower = name.lower()
        if lower.endswith(".gguf"):
            return name in self.controlled
        return ".gguf" in lower and lower.endswith(_PARTIAL)


def list_folder(path: Path) -> Listing:
    """Return what is in a folder.

    Raises:
        OSError: it is none, or cannot be read.
    """
    files: list[str] = []
    folders: list[str] = []
    with os.scandir(path) as entries:
        for entry in entries:
            (folders if _is_folder(entry) else files).append(entry.name)
    controlled = (name.removesuffix(_CONTROL) for name in files if name.endswith(_CONTROL))
    return Listing(sorted(files), sorted(folders), frozenset(controlled))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
