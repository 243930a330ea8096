"""States of memory that cannot be cut at a prefix's end, as recurrent models have.

A state serves prompts that begin with all of its tokens. So one is kept near the end of each prompt,
from where the next turn of a conversation goes on, and one of each sequence that goes.
Thread: the engine's.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

from shimmy.errors import LlamaError
from shimmy.worker.lora_set import NO_LORAS, LoraSet, salt
from shimmy.worker.resident import WORD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shimmy.worker.cells import Cells
    from shimmy.worker.host_cache import HostCache
    from shimmy.worker.job import Job
    from shimmy.worker.resident import Resident

BEFORE_END = 4
"""Tokens before a prompt's end where its state is kept: templates end in a few that the next turn
may write differently, and the same prompt again must have one left to feed."""

MIN_TOKENS = 32
"""Shorter sequences are computed faster than it is worth keeping their states."""

MAX_BYTES = 128 << 20
"""A larger state would hold up the other rows for too long: it is copied in one call."""


class Checkpoints:
    """States by their tokens, in the place of a `Pager`."""

    def __init__(self, cache: HostCache, cells: Cells) -> None:
        """`cache` is for the states alone."""
        self._cache = cache
        self._cells = cells
        self._lengths: dict[bytes, int] = {}

    def begin(self, *, busy: bool) -> None:
        """Start a step: each state takes one call, whatever the time."""

    def n_saved(self, key: bytes, loras: LoraSet = NO_LORAS) -> int:
        """Return how many first tokens of a prompt could be brought back."""
        found = 0
        for n_tokens, name in self._names(key, loras):
            if name in self._cache:
                found = n_tokens
        return found

    def mark(self, n_prompt: int) -> int:
        """Return where a prompt's intake is to stop for `checkpoint`; 0: nowhere."""
        n_tokens = n_prompt - BEFORE_END
        return n_tokens if n_tokens >= MIN_TOKENS else 0

    def checkpoint(self, job: Job) -> None:
        """Keep the state that a row has reached."""
        self._keep(job.seq_id, job.key[: job.n_past * WORD], job.loras)

    def save(self, resident: Resident) -> None:
        """Keep the state of a sequence that goes."""
        if resident.n_tokens >= MIN_TOKENS:
            self._keep(resident.seq_id, bytes(resident.tokens), resident.loras)

    def load(self, job: Job) -> int:
        """Bring back `job.n_fetch` tokens at once; return how many are in cells then."""
        wanted = job.key[: job.n_fetch * WORD]
        name = _name(wanted, job.loras)
        data = self._cache.get(name)
        if data is None:
            job.n_fetch = job.n_past
            return job.n_past
        try:
            self._cells.restore(job.seq_id, data, job.n_fetch)
        except LlamaError:
            # the sequence is empty now, whatever it held before
            job.n_fetch = 0
            return 0
        self._cache.touch([name])
        return job.n_fetch

    def forget(self, resident: Resident) -> None:
        """Drop the states of a sequence and of what it begins with."""
        for _, name in list(self._names(bytes(resident.tokens), resident.loras)):
            self._cache.drop(name)

    def _keep(self, seq_id: int, tokens: bytes, loras: LoraSet) -> None:
        name = _name(tokens, loras)
        if name in self._cache:
            self._cache.touch([name])
            return
        data = self._cells.save(seq_id)
        if data.nbytes <= MAX_BYTES and self._cache.put(name, data):
            self._lengths[name] = len(tokens) // WORD
        if len(self._lengths) > 2 * len(self._cache) + 1:
            self._lengths = {n: size for n, size in self._lengths.items() if n in self._cache}

    def _names(self, tokens: bytes, loras: LoraSet) -> Iterator[tuple[int, bytes]]:
        """Yield length and name of each beginning that is as long as some kept state."""
        digest = blake2b(salt(loras), digest_size=16)
        done = 0
        for n_tokens in sorted(set(self._lengths.values())):
            end = n_tokens * WORD
            if end > len(tokens):
                return
            digest.update(tokens[done:end])
            done = end
            yield n_tokens, digest.digest()


def _name(tokens: bytes, loras: LoraSet) -> bytes:
    return blake2b(salt(loras) + tokens, digest_size=16).digest()
