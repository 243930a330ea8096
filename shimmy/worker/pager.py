"""Moves blocks of sequences between cells and host memory, a bounded time in each step.

llama.cpp saves and restores whole sequences only. A block goes through a scratch sequence that
shares (or is to share) just its cells, so that each call is short, and conversations that begin
alike are kept once. Thread: the engine's.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from shimmy.errors import LlamaError
from shimmy.worker.host_cache import HostCache, names, tail_name
from shimmy.worker.lora_set import NO_LORAS, LoraSet
from shimmy.worker.medium import n_text
from shimmy.worker.resident import WORD

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

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
        self._cache.expect()

    @property
    def n_block(self) -> int:
        """Tokens of a whole block."""
        return self._n_block

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
            data, end = self._block(job, listed, n_past)
            if data is None:
                return self._give_up(job, n_past)
            try:
                self._cells.copy_in(job.seq_id, data, n_past, end)
            except LlamaError:
                return self._give_up(job, n_past)
            n_past = end
        if n_past >= job.n_fetch:
            self._cache.touch(listed[: n_past // self._n_block])
        return n_past

    def marks(self, n_prompt: int) -> list[int]:  # noqa: ARG002  the seam's, see Checkpoints
        """Return where a prompt's intake is to stop for `checkpoint`: nowhere."""
        return []

    def checkpoint(self, job: Job) -> None:
        """Do nothing: blocks are kept when they go."""

    def relieve(self) -> bool:
        """Find no cells: those of idle sequences are the scheduler's to give up."""
        return False

    def complete(self, resident: Resident) -> bool:  # noqa: ARG002
        """Say that an idle sequence has all that it needs to go on."""
        return True

    def forget(self, resident: Resident) -> None:
        """Drop all blocks of a sequence, also those that others begin with."""
        for name in names(resident.tokens, self._n_block, resident.loras):
            self._cache.drop(name)

    def drop(self, job: Job) -> None:
        """Remove what was brought for a job that cannot use it after all."""
        self._cells.remove(job.seq_id)

    def save_tail(self, seq_id: int, tokens: bytes, loras: LoraSet) -> None:
        """Keep what a sequence of these tokens holds behind its last whole block."""
        n_tokens = len(tokens) // WORD
        begin = n_tokens // self._n_block * self._n_block
        if n_text(tokens) < n_tokens:
            return
        name = tail_name(tokens, loras)
        if begin < n_tokens and name not in self._cache:
            self._cache.put(name, self._cells.copy_out(seq_id, begin, n_tokens))

    def could_end(self, key: bytes, loras: LoraSet, n_tokens: int) -> bool:
        """Whether just `n_tokens` of a prompt could be brought, as many as `n_saved` or a few more."""
        if n_tokens <= self.n_saved(key, loras):
            return True
        return tail_name(key[: n_tokens * WORD], loras) in self._cache

    def _block(
        self, job: Job, listed: list[bytes], n_past: int
    ) -> tuple[NDArray[np.uint8] | None, int]:
        """Return what holds the tokens from `n_past` on, and how many a job has with it."""
        i = n_past // self._n_block
        end = min((i + 1) * self._n_block, job.n_fetch)
        data = self._cache.get(listed[i]) if i < len(listed) else None
        if data is None and end == job.n_fetch:
            data = self._cache.get(tail_name(job.key[: end * WORD], job.loras))
        return data, end

    def _give_up(self, job: Job, n_past: int) -> int:
        job.n_fetch = n_past
        return n_past
