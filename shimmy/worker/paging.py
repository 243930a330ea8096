"""The seam between the loop and host caches, and which kind of those a model's memory allows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from shimmy.worker.cells import Cells, WindowCells
from shimmy.worker.checkpoints import Checkpoints
from shimmy.worker.context_options import cache_bytes
from shimmy.worker.host_cache import HostCache
from shimmy.worker.pager import Pager, block_size
from shimmy.worker.prefix import PrefixIndex, Sharing
from shimmy.worker.windows import Live, Windows

if TYPE_CHECKING:
    from shimmy.engine.types.options import EngineOptions
    from shimmy.worker.context_options import Layout
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
        """Keep the state that a row has reached at a mark."""

    def relieve(self) -> bool:
        """Find cells that the scheduler does not know of; False when there are none."""

    def complete(self, resident: Resident) -> bool:
        """See to it that an idle sequence has all that it needs to go on; False: some of it is gone."""

    def forget(self, resident: Resident) -> None:
        """Drop what is kept of a sequence, also what others begin with."""


def make_paging(loaded: Loaded, options: EngineOptions) -> Pager | Checkpoints | Windows | None:
    """Return the host cache; None where it is off, or each row keeps cells of its own anyway."""
    n_bytes = cache_bytes(options)
    layout = loaded.layout
    window = layout.window
    cells = Cells(loaded.context, apart=window)
    n_block = block_size(loaded.token_bytes)
    if layout.sharing is Sharing.WHOLE and n_bytes and options.ctx_checkpoints:
        return Checkpoints(HostCache(n_bytes), cells, n_most=options.ctx_checkpoints)
    if layout.sharing is Sharing.CELLS and window is not None:
        cache = HostCache(n_bytes if options.ctx_checkpoints else 0)
        states = WindowCells(loaded.context, window, scratch=layout.scratch)
        checkpoints = Checkpoints(cache, states, n_most=options.ctx_checkpoints)
        pager = Pager(cache, cells, n_block=n_block) if layout.scratch and cache.max_bytes else None
        return Windows(window, checkpoints, pager)
    if layout.scratch and n_bytes:
        return Pager(HostCache(n_bytes), cells, n_block=n_block)
    return None


def make_index(layout: Layout, paging: Pager | Checkpoints | Windows | None) -> PrefixIndex:
    """Return an index that knows where sequences can be gone on with."""
    if isinstance(paging, Windows):
        index = layout.index(paging)
        paging.watch(index)
        return index
    if layout.window is None or layout.sharing is Sharing.WHOLE:
        return layout.index()
    return layout.index(Live(layout.window))
