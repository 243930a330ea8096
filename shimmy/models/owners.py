"""Which files have a plain name, kept on disk: a new file of that name must not get it at a restart.

A cache and nothing more: without it the first file that is found has the name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from shimmy.models import cache_file
from shimmy.models.naming import Identity, printable

# Another number makes a new file.
FORMAT = 1
MAX_OWNERS = 20_000
MAX_BYTES = 16 * 1024 * 1024


class Owners:
    """Models by path and stem that had their stem as name. One thread at a time."""

    def __init__(self, path: Path | None = None) -> None:
        """Keep them in the file `path`; None keeps them in memory only."""
        self._path = path
        self._known: dict[Identity, None] | None = None

    @classmethod
    def standard(cls) -> Owners:
        """Return those in the user's cache folder."""
        import platformdirs

        return cls(platformdirs.user_cache_path("shimmy") / f"names-{FORMAT}.msgpack")

    def names(self) -> dict[Identity, str]:
        """Return the names that there were."""
        return {(path, stem): printable(stem) for path, stem in self._load()}

    def keep(self, names: Mapping[Identity, str]) -> None:
        """Remember who has a plain name now; others are those of their folders, and need no memory."""
        known = self._load()
        new = [key for key, name in names.items() if name == printable(key[1]) and key not in known]
        if not new:
            return
        known.update(dict.fromkeys(new))
        while len(known) > MAX_OWNERS:
            del known[next(iter(known))]
        if self._path is not None:
            with contextlib.suppress(OSError):
                cache_file.replace(self._path, list(known))

    def _load(self) -> dict[Identity, None]:
        if self._known is None:
            found = self._path and cache_file.read(self._path, list[Identity], most=MAX_BYTES)
            self._known = dict.fromkeys(found or ())
        return self._known
