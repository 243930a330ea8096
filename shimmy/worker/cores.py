"""The machine's cores: how many compute, and whether one is left for what surrounds the decode."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shimmy.machine.cores import usable

if TYPE_CHECKING:
    from shimmy.engine.types.options import EngineOptions

_MANY = 4


def n_threads(options: EngineOptions) -> int:
    """One thread for each physical core; on a small machine for each core it may run on."""
    if options.n_threads is not None:
        return options.n_threads
    n_cores = usable()
    if n_cores <= _MANY:
        return n_cores
    import psutil

    return min(psutil.cpu_count(logical=False) or n_cores, n_cores)


def spare(n_computing: int) -> bool:
    """Whether a core is left while so many threads compute.

    Where none is, a thread that must wait for its turn makes all the others wait at the next
    barrier: with two threads on two cores, steps that ran ahead halved the speed of one stream.
    """
    return usable() > n_computing
