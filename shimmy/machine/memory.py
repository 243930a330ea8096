"""Main memory, as far as this process may use it: the machine's, within the limits of its cgroups.

A container gets its share by a cgroup, and what goes beyond it is killed; the machine's own
figures, which psutil reads, say nothing of that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shimmy.machine.cgroups import ROOT, Group, groups

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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


def main_memory(root: Path = ROOT) -> Memory:
    """Return what this process may use of the machine's memory; `root` is for tests."""
    import psutil

    machine = psutil.virtual_memory()
    limits = [limit for group in groups("memory", root) for limit in _memory(group)]
    return Memory(
        total=min([int(machine.total), *(one.limit for one in limits)]),
        free=min([int(machine.available), *(one.free for one in limits)]),
    )


def free_swap(root: Path = ROOT) -> int:
    """Return how many bytes this process may have swapped out; `root` is for tests."""
    import psutil

    limits = [limit for group in groups("memory", root) for limit in _swap(group)]
    return min([int(psutil.swap_memory().free), *(one.free for one in limits)])


def _memory(group: Group) -> Iterator[_Limit]:
    # over `high` nothing is killed, but everything waits for pages
    names, current, prefix = ["memory.max", "memory.high"], "memory.current", ""
    if group.legacy:
        names, current, prefix = ["memory.limit_in_bytes"], "memory.usage_in_bytes", "total_"
    used = (group.number(current) or 0) - _cache(group, prefix)
    for name in names:
        limit = group.number(name)
        if limit is not None and limit < _NO_LIMIT:
            yield _Limit(limit, used)


def _swap(group: Group) -> Iterator[_Limit]:
    if not group.legacy:
        limit = group.number("memory.swap.max")
        if limit is not None:
            yield _Limit(limit, group.number("memory.swap.current") or 0)
        return
    both, limit = group.number("memory.memsw.limit_in_bytes"), group.number("memory.limit_in_bytes")
    if both is not None and limit is not None and max(both, limit) < _NO_LIMIT:
        used = group.number("memory.memsw.usage_in_bytes") or 0
        used -= group.number("memory.usage_in_bytes") or 0
        yield _Limit(both - limit, used)


def _cache(group: Group, prefix: str) -> int:
    """Return the bytes of files in memory, which the kernel gives back when it needs the room."""
    wanted = {f"{prefix}inactive_file", f"{prefix}active_file"}
    pairs = (line.split() for line in group.lines("memory.stat"))
    return sum(int(pair[1]) for pair in pairs if len(pair) == 2 and pair[0] in wanted)
