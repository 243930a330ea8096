"""What was read from headers, kept on disk, so that a file is opened once and not for every scan.

A cache and nothing more: whatever is wrong with it, files are read again.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from shimmy.errors import GgufError
from shimmy.models import cache_file
from shimmy.models.gguf.facts import Facts, facts_of
from shimmy.models.gguf.file import read_gguf

# Another number makes a new file: raise it when `Facts` or the checks behind it change.
FORMAT = 2
# Far more models than anybody has; a file larger than this is not ours.
MAX_FILES = 20_000
MAX_BYTES = 32 * 1024 * 1024


class _Known(msgspec.Struct, frozen=True, array_like=True):
    """A file at one time: facts, or why there are none."""

    size: int
    mtime_ns: int
    facts: Facts | None
    refusal: str | None = None
    remedy: str | None = None


class Index:
    """Facts by path, size and time of change. One thread at a time."""

    def __init__(self, path: Path | None = None) -> None:
        """Keep the facts in the file `path`; None keeps them in memory only."""
        self._path = path
        self._files: dict[bytes, _Known] | None = None
        self._changed = False
        self.n_read = 0

    @classmethod
    def standard(cls) -> Index:
        """Return the index in the user's cache folder."""
        import platformdirs

        return cls(platformdirs.user_cache_path("shimmy") / f"headers-{FORMAT}.msgpack")

    def facts(self, path: str, status: os.stat_result) -> Facts:
        """Return the facts about a file that has this status.

        Raises:
            GgufError: it is no GGUF, or a damaged one.
            OSError: it cannot be read.
        """
        files, key = self._load(), os.fsencode(path)
        known = files.get(key)
        if known is None or known.mtime_ns != status.st_mtime_ns or known.size != status.st_size:
            known = _read(path, status)
            self.n_read += 1
            self._changed = True
            files.pop(key, None)  # what is new stands last: the oldest is dropped first
            files[key] = known
        if known.facts is None:
            refusal = known.refusal or "it is not a GGUF model file"
            raise GgufError(refusal, remedy=known.remedy)
        return known.facts

    def save(self) -> None:
        """Write what is new, in one step; a folder that cannot be written is no error."""
        if self._path is None or not self._changed or self._files is None:
            return
        self._changed = False
        while len(self._files) > MAX_FILES:
            del self._files[next(iter(self._files))]
        with contextlib.suppress(OSError):
            cache_file.replace(self._path, self._files)

    def _load(self) -> dict[bytes, _Known]:
        if self._files is None:
            found = self._path and cache_file.read(self._path, dict[bytes, _Known], most=MAX_BYTES)
            self._files = found or {}
        return self._files


def _read(path: str, status: os.stat_result) -> _Known:
    try:
        return _Known(status.st_size, status.st_mtime_ns, facts_of(read_gguf(path)))
    except GgufError as error:
        return _Known(status.st_size, status.st_mtime_ns, None, error.message, error.remedy)
