"""The control groups that this process is in, of version 1 or 2, and the numbers in their files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path("/")


@dataclass(frozen=True, slots=True)
class Group:
    """A group by its folder; `legacy`: of version 1, whose files have other names."""

    folder: Path
    legacy: bool

    def number(self, name: str) -> int | None:
        """Return the number in a file; None where it says `max`, or is not there."""
        text = "".join(self.lines(name)).strip()
        return int(text) if text.lstrip("-").isdigit() else None

    def lines(self, name: str) -> list[str]:
        """Return the lines of a file, none if it cannot be read."""
        return _lines(self.folder / name)


def groups(controller: str, root: Path = ROOT) -> Iterator[Group]:
    """Yield this process's groups for a controller, each with those around it as far as they are shown.

    `root` is for tests.
    """
    for path, legacy in _memberships(controller, root):
        for within, top in _mounts(controller, root, legacy=legacy):
            folder = top / path.relative_to(within) if path.is_relative_to(within) else top
            if ".." in folder.parts:
                folder = top  # the process lies outside of what is mounted here
            while folder != top:
                yield Group(folder, legacy)
                folder = folder.parent
            yield Group(top, legacy)


def _memberships(controller: str, root: Path) -> Iterator[tuple[Path, bool]]:
    """Yield the paths of this process's groups, and whether they are of version 1."""
    for line in _lines(root / "proc/self/cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(","):
            yield Path(path), True
        elif number == "0" and not controllers:
            yield Path(path), False


def _mounts(controller: str, root: Path, *, legacy: bool) -> Iterator[tuple[Path, Path]]:
    """Yield which group is mounted where: in a container that is mostly its own."""
    for line in _lines(root / "proc/self/mountinfo"):
        fields, _, rest = line.partition(" - ")
        words, about = fields.split(), rest.split()
        if len(words) < 5 or len(about) < 3:
            continue
        if about[0] == ("cgroup" if legacy else "cgroup2") and (
            not legacy or controller in about[2].split(",")
        ):
            within, where = (word.replace("\\040", " ") for word in words[3:5])
            yield Path(within), root / where.lstrip("/")


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
