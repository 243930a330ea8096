"""Moves blocks of sequences between cells and host memory, a bounded time in each step.

llama.cpp saves and restores whole sequences only. A block goes through a scratch sequence that
shares (or is to share) just its cells, so that each call is short, and conversations that begin
alike are kept once. Thread: the engine's.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from shimmy.errors import LlamaError
from shimmy.worker.host_cache import HostCache, names
from shimmy.worker.lora_set import NO_LORAS, LoraSet

if TYPE_CHECKING:
    from shimmy.worker.cells import Cells
    from shimmy.worker.job import Job
    from shimmy.worker.resident import Resident

SECONDS = 0.03
"""What moving may take of a step in which rows generate."""

ALONE_SECONDS = 0.5
"""And when nobody waits but the prompt for which it is done: computing it takes longer."""

BLOCK_BYTES = 8 << 20
MAX_BLOCK = 64
MIN_BLOCK = 16


def block_size(n_bytes: int) -> int:
    """Return the tokens of a block, a power of two, where a token takes `n_bytes`."""
    n_tokens = MAX_BLOCK
    while n_tokens > MIN_BLOCK and n_tokens * n_bytes > BLOCK_BYTES:
        n_tokens //= 2
    return n_tokens


class Pager:
    """The blocks of one context's sequences."""

    def __init__(self, cache: HostCache, cells: Cells, *, n_block: int) -> None:
        """`n_block` is in tokens."""
        self._cache = cache
        self._cells = cells
        self._n_block = n_block
        self._until = 0.0

    def begin(self, *, busy: bool) -> None:
        """Start the time of a step, which is short while rows generate."""
        self._until = time.monotonic() + (SECONDS if busy else ALONE_SECONDS)

    def n_saved(self, key: bytes, loras: LoraSet = NO_LORAS) -> int:
        """Return how many first tokens of a prompt could be brought back."""
        found = 0
        for name in names(key, self._n_block, loras):
            if name not in self._cache:
                break
            found += 1
        return found * self._n_block

    def save(self, resident: Resident) -> None:
        """Keep what is not kept yet of a sequence that goes; what time does not suffice for is lost."""
        listed = list(names(resident.tokens, self._n_block, resident.loras))
        for i, name in enumerate(listed):
            if name in self._cache:
                continue
            if time.monotonic() > self._until:
                break
            begin = i * self._n_block
            data = self._cells.copy_out(resident.seq_id, begin, begin + self._n_block)
            if not self._cache.put(name, data):
                break
        self._cache.touch(listed)

    def load(self, job: Job) -> int:
        """Bring back what fits into this step; return how many first tokens are in cells then.

        Less than `job.n_fetch`, and time left, when a block is gone, damaged, or finds no cells.
        """
        listed = list(names(job.key, self._n_block, job.loras))
        n_past = job.n_past
        while n_past < job.n_fetch and time.monotonic() < self._until:
            i = n_past // self._n_block
            data = self._cache.get(listed[i])
            if data is None:
                return self._give_up(job, n_past)
            end = (i + 1) * self._n_block
            try:
                self._cells.copy_in(job.seq_id, data, n_past, end)
            except LlamaError:
                return self._give_up(job, n_past)
            n_past = end
        if n_past >= job.n_fetch:
            self._cache.touch(listed[: n_past // self._n_block])
        return n_past

    def mark(self, n_prompt: int) -> int:  # noqa: ARG002  the seam's, see Checkpoints
        """Return where a prompt's intake is to stop for `checkpoint`: nowhere."""
        return 0

    def checkpoint(self, job: Job) -> None:
        """Do nothing: blocks are kept when they go."""

    def forget(self, resident: Resident) -> None:
        """Drop all blocks of a sequence, also those that others begin with."""
        for name in names(resident.tokens, self._n_block, resident.loras):
            self._cache.drop(name)

    def _give_up(self, job: Job, n_past: int) -> int:
        job.n_fetch = n_past
        return n_past
