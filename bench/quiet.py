"""Whether others use the machine: waits until they do not, and says how much of it they took while something was measured."""

from __future__ import annotations

import os
import sys
import time

import psutil

_SAMPLE_S = 0.3
_BUSY = 0.15


def wait(limit_s: float) -> None:
    """Wait until the cores are nearly idle, at most so long."""
    until = time.monotonic() + limit_s
    told = False
    while psutil.cpu_percent(_SAMPLE_S) > 100 * _BUSY and time.monotonic() < until:
        if not told:
            print("the machine is busy: waiting", file=sys.stderr, flush=True)
            told = True


class Watch:
    """Counts the CPU time that was used since it was made."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._used = _used()
        self._own = _own()

    def others(self, servers: float) -> float:
        """Return the share of all cores that went neither to the servers (in seconds) nor to the client."""
        used = _used() - self._used - (_own() - self._own) - servers
        cores = psutil.cpu_count() or 1
        return max(0.0, used / (cores * (time.monotonic() - self._started)))


def _used() -> float:
    times = psutil.cpu_times()
    # Linux counts a guest's time in user too
    return sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)


def _own() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
