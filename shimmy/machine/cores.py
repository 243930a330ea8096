"""The cores that this process may use: those it may run on, within the time that its cgroups grant."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from shimmy.machine.cgroups import ROOT, Group, groups

if TYPE_CHECKING:
    from pathlib import Path


def usable(root: Path = ROOT) -> int:
    """Return how many threads can run at once, at least 1; `root` is for tests.

    In a container that may use the time of four cores on a machine of sixty-four, more than four
    threads would only wait for each other.
    """
    if hasattr(os, "sched_getaffinity"):
        n_cores = len(os.sched_getaffinity(0))
    else:
        n_cores = os.cpu_count() or 1
    quotas = [quota for group in groups("cpu", root) if (quota := _quota(group)) is not None]
    return max(1, min([n_cores, *(round(quota) for quota in quotas)]))


def _quota(group: Group) -> float | None:
    """Return how many cores' time a group gets, None where that is not limited."""
    if group.legacy:
        time, period = group.number("cpu.cfs_quota_us"), group.number("cpu.cfs_period_us")
        return time / period if time is not None and time > 0 and period else None
    words = "".join(group.lines("cpu.max")).split()
    if len(words) != 2 or not all(word.isdigit() for word in words) or words[1] == "0":
        return None
    return int(words[0]) / int(words[1])
