"""Names that come from elsewhere, held to what may be a path of ours."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from shimmy.errors import PullError

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+=@()\[\], -]{0,199}")
# what Windows keeps for devices, whatever ending follows
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_MAX_PARTS = 4

REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
"""A repository on a hub, `org/repo`."""


def is_safe(name: str) -> bool:
    """Whether a file's name on a hub may be used here: plain parts, none that leads elsewhere."""
    parts = name.split("/")
    return len(parts) <= _MAX_PARTS and all(
        _PART.fullmatch(part) and not part.endswith((".", " ")) and not _DEVICES.fullmatch(part)
        for part in parts
    )


def safe_path(folder: Path, name: str) -> Path:
    """Return where the file `name` (with `/` between its parts) goes under `folder`.

    Raises:
        PullError: the name could lead elsewhere, or a link in the way does.
    """
    if not is_safe(name):
        raise PullError(f"the file is called {name!r}, which is no safe name here")
    path = folder.joinpath(*PurePosixPath(name).parts)
    for part in (path, *path.parents):
        if part == folder:
            break
        if part.is_symlink():
            raise PullError(f"{part} is a link: shimmy writes through none; remove it")
    return path
