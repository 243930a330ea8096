"""What is to be fetched: files with their sizes, known before the first byte."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from shimmy.errors import PullError
from shimmy.models.hub.names import safe_path

# the file system's own books, and whatever else is written meanwhile
_SPARE = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A file elsewhere; `size` in bytes. `sha256` is what its content must give, where it is known.

    `version` tells this content from any other under the same URL.
    """

    name: str
    url: str
    size: int
    version: str
    sha256: str | None = None
    headers: dict[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull:
    """Files that make one model, the (first) one to load in front, and the folder they go to."""

    folder: Path
    files: tuple[RemoteFile, ...]
    quant: str | None = None
    mmproj: str | None = None

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def main(self) -> Path:
        """Where the file that is loaded will be."""
        return self.path(self.files[0])

    def path(self, file: RemoteFile) -> Path:
        """Return where a file goes.

        Raises:
            PullError: its name is not safe, or a link is in the way.
        """
        return safe_path(self.folder, file.name)

    def part(self, file: RemoteFile) -> Path:
        """Return where a file is while it is not whole; another version has another place."""
        path = self.path(file)
        return path.with_name(f"{path.name}.{file.version[:12]}.part")

    def is_there(self, file: RemoteFile) -> bool:
        """Whether a file is there, whole."""
        try:
            return self.path(file).stat().st_size == file.size
        except OSError:
            return False

    def missing(self, file: RemoteFile) -> int:
        """Return how many bytes of a file are still to come."""
        if self.is_there(file):
            return 0
        try:
            return max(0, file.size - self.part(file).stat().st_size)
        except OSError:
            return file.size

    @property
    def to_fetch(self) -> int:
        """Bytes that are still to come."""
        return sum(self.missing(file) for file in self.files)

    def check_space(self) -> None:
        """Make sure that the disk takes what is still to come.

        Raises:
            PullError: it does not; says what is needed and what there is.
        """
        wanted = self.to_fetch
        free = free_space(self.folder)
        if wanted and wanted + _SPARE > free:
            raise PullError(
                f"{_gb(wanted)} are to be fetched, and {self.folder} has room for {_gb(free)}: "
                "make room (`shimmy rm NAME` removes a model), or take a smaller quantisation"
            )


def free_space(folder: Path) -> int:
    """Return the free bytes of the disk that `folder` is, or will be, on."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(there).free


def _gb(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:.1f} MB"
