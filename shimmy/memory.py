"""Main memory, as far as this process may use it: the machine's, within the limits of its cgroups.

A container gets its share by a cgroup (version 1 or 2), and what goes beyond it is killed; the
machine's own figures, which psutil reads, say nothing of that.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path("/")
# version 1 writes the largest number of pages for "no limit"
_NO_LIMIT = 1 << 60


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of main memory: all that may be used, and what of it is free or can be made free."""

    total: int
    free: int


@dataclass(frozen=True, slots=True)
class _Limit:
    """One limit and what counts against it; file pages are given back before it is reached."""

    limit: int
    used: int

    @property
    def free(self) -> int:
        return max(0, self.limit - self.used)


def main_memory(root: Path = _ROOT) -> Memory:
    """Return what this process may use of the machine's memory; `root` is for tests."""
    import psutil

    machine = psutil.virtual_memory()
    limits = [limit for group in _groups(root) for limit in group.memory()]
    return Memory(
        total=min([int(machine.total), *(one.limit for one in limits)]),
        free=min([int(machine.available), *(one.free for one in limits)]),
    )


def free_swap(root: Path = _ROOT) -> int:
    """Return how many bytes this process may have swapped out; `root` is for tests."""
    import psutil

    limits = [limit for group in _groups(root) for limit in group.swap()]
    return min([int(psutil.swap_memory().free), *(one.free for one in limits)])


@dataclass(frozen=True, slots=True)
class _Unified:
    """A group of version 2, by its folder."""

    folder: Path

    def memory(self) -> Iterator[_Limit]:
        used = _number(self.folder / "memory.current", 0) - _cache(self.folder, "")
        # over `high` nothing is killed, but everything waits for pages
        for name in ("memory.max", "memory.high"):
            if (limit := _number(self.folder / name)) < _NO_LIMIT:
                yield _Limit(limit, used)

    def swap(self) -> Iterator[_Limit]:
        if (limit := _number(self.folder / "memory.swap.max")) < _NO_LIMIT:
            yield _Limit(limit, _number(self.folder / "memory.swap.current", 0))


@dataclass(frozen=True, slots=True)
class _Legacy:
    """A group of version 1's memory controller, by its folder."""

    folder: Path

    def memory(self) -> Iterator[_Limit]:
        if (limit := _number(self.folder / "memory.limit_in_bytes")) < _NO_LIMIT:
            used = _number(self.folder / "memory.usage_in_bytes", 0)
            yield _Limit(limit, used - _cache(self.folder, "total_"))

    def swap(self) -> Iterator[_Limit]:
        both = _number(self.folder / "memory.memsw.limit_in_bytes")
        limit = _number(self.folder / "memory.limit_in_bytes")
        if both < _NO_LIMIT and limit < _NO_LIMIT:
            used = _number(self.folder / "memory.memsw.usage_in_bytes", 0)
            used -= _number(self.folder / "memory.usage_in_bytes", 0)
            yield _Limit(both - limit, used)


def _groups(root: Path) -> Iterator[_Unified | _Legacy]:
    """Yield the groups that this process is in, each with those around it as far as they are shown."""
    for path, legacy in _memberships(root):
        for within, top in _mounts(root, legacy=legacy):
            folder = top / path.relative_to(within) if path.is_relative_to(within) else top
            if ".." in folder.parts:
                folder = top  # the process lies outside of what is mounted here
            kind = _Legacy if legacy else _Unified
            while folder != top:
                yield kind(folder)
                folder = folder.parent
            yield kind(top)


def _memberships(root: Path) -> Iterator[tuple[Path, bool]]:
    """Yield the paths of this process's groups, and whether they are of version 1."""
    for line in _lines(root / "proc/self/cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if "memory" in controllers.split(","):
            yield Path(path), True
        elif number == "0" and not controllers:
            yield Path(path), False


def _mounts(root: Path, *, legacy: bool) -> Iterator[tuple[Path, Path]]:
    """Yield which group is mounted where: in a container that is mostly its own."""
    for line in _lines(root / "proc/self/mountinfo"):
        fields, _, rest = line.partition(" - ")
        words, about = fields.split(), rest.split()
        if len(words) < 5 or len(about) < 3:
            continue
        if about[0] == ("cgroup" if legacy else "cgroup2") and (
            not legacy or "memory" in about[2].split(",")
        ):
            within, where = (word.replace("\\040", " ") for word in words[3:5])
            yield Path(within), root / where.lstrip("/")


def _cache(folder: Path, prefix: str) -> int:
    """Return the bytes of files in memory, which the kernel gives back when it needs the room."""
    wanted = {f"{prefix}inactive_file", f"{prefix}active_file"}
    pairs = (line.split() for line in _lines(folder / "memory.stat"))
    return sum(int(pair[1]) for pair in pairs if len(pair) == 2 and pair[0] in wanted)


def _number(path: Path, otherwise: int = _NO_LIMIT) -> int:
    """Return the number in a file, or `otherwise` where it says `max` or is not there."""
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdigit() else otherwise


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
