"""The seam between the loop and host caches, and which kind of those a model's memory allows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from shimmy.worker.cells import Cells
from shimmy.worker.checkpoints import Checkpoints
from shimmy.worker.context_options import cache_bytes
from shimmy.worker.host_cache import HostCache
from shimmy.worker.pager import Pager, block_size
from shimmy.worker.prefix import Sharing

if TYPE_CHECKING:
    from shimmy.engine.types.options import EngineOptions
    from shimmy.worker.job import Job
    from shimmy.worker.loading import Loaded
    from shimmy.worker.resident import Resident


class Paging(Protocol):
    """Where cells go that are needed for others, and come back from."""

    def begin(self, *, busy: bool) -> None:
        """Start the time of a step, which is short while rows generate."""

    def save(self, resident: Resident) -> None:
        """Keep what an idle sequence holds, which is removed then."""

    def load(self, job: Job) -> int:
        """Bring back first tokens of a job; return how many are in its cells, 0 if none are left."""

    def checkpoint(self, job: Job) -> None:
        """Keep the state that a row has reached at its mark."""


def make_paging(loaded: Loaded, options: EngineOptions) -> Pager | Checkpoints | None:
    """Return the host cache; None where it is off, or each row keeps cells of its own anyway."""
    n_bytes = cache_bytes(options)
    layout = loaded.layout
    if n_bytes == 0:
        return None
    cells = Cells(loaded.context, scratch=layout.scratch)
    if layout.sharing is Sharing.WHOLE:
        return Checkpoints(HostCache(n_bytes), cells)
    if layout.scratch:
        return Pager(HostCache(n_bytes), cells, n_block=block_size(loaded.token_bytes))
    return None
