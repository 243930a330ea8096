"""States of memory that cannot be cut at a prefix's end: recurrent ones, and sliding windows.

A state serves prompts that begin with all of its tokens. So some are kept of each prompt: near its
end, from where the next turn of a conversation goes on, and on the way, for other prompts that
begin alike. And one of each sequence that goes.
Thread: the engine's.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Protocol

from shimmy.errors import LlamaError
from shimmy.worker.lora_set import NO_LORAS, LoraSet, salt
from shimmy.worker.medium import n_text
from shimmy.worker.resident import WORD

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from shimmy.worker.host_cache import HostCache
    from shimmy.worker.job import Job
    from shimmy.worker.resident import Resident

BEFORE_END = (4, 516)
"""Tokens before a prompt's end where its state is kept: templates end in a few that the next turn
may write differently, and the same prompt again must have one left to feed. And before a question
of some length, for another one about the same text."""

EVERY = 4096
"""Tokens after which one is kept on the way: computing so many takes much longer than a copy."""

MIN_TOKENS = 32
"""Shorter sequences are computed faster than it is worth keeping their states."""

MAX_BYTES = 512 << 20
"""A larger state is not kept: it is copied in one call, which would hold up the other rows for too long."""

DEFAULT_N = 32


class States(Protocol):
    """What is kept of a sequence, as bytes."""

    def size(self, seq_id: int) -> int:
        """Return the bytes of its state."""

    def save(self, seq_id: int) -> NDArray[np.uint8]:
        """Return its state."""

    def restore(
        self, seq_id: int, data: NDArray[np.uint8], n_tokens: int, *, with_media: bool
    ) -> None:
        """Give it the state of `n_tokens` tokens; raises `LlamaError`, and it has none then."""


class Checkpoints:
    """States by their tokens, in the place of a `Pager`."""

    def __init__(self, cache: HostCache, states: States, *, n_most: int = DEFAULT_N) -> None:
        """Of each prompt at most `n_most` are kept. Others may keep what they will in `cache`."""
        self._cache = cache
        self._states = states
        self._n_most = n_most
        self._lengths: dict[bytes, int] = {}
        # What was asked for last: an index asks again for each sequence that begins alike.
        self._last: tuple[bytes, LoraSet, list[tuple[int, bytes]]] | None = None

    def begin(self, *, busy: bool) -> None:  # noqa: ARG002  the seam's, see Pager
        """Start a step: each state takes one call, whatever the time."""
        self._cache.expect()

    def relieve(self) -> bool:
        """Find no cells: each sequence has its own."""
        return False

    def complete(self, resident: Resident) -> bool:  # noqa: ARG002  the seam's, see Windows
        """Say that an idle sequence has all that it needs to go on."""
        return True

    def n_saved(self, key: bytes, loras: LoraSet = NO_LORAS) -> int:
        """Return how many first tokens of a prompt could be brought back."""
        return self.longest(key, loras, len(key) // WORD)

    def marks(self, n_prompt: int) -> list[int]:
        """Return where a prompt's intake is to stop for `checkpoint`, in order."""
        ends = {n_prompt - n for n in BEFORE_END}
        wanted = sorted(ends.union(range(EVERY, n_prompt, EVERY)))
        return [n for n in wanted if n >= MIN_TOKENS][-self._n_most :] if self._n_most else []

    def checkpoint(self, job: Job) -> None:
        """Keep the state that a row has reached."""
        self.keep(job.seq_id, job.key[: job.n_past * WORD], job.loras)

    def save(self, resident: Resident) -> None:
        """Keep the state of a sequence that goes."""
        if resident.n_tokens >= MIN_TOKENS:
            self.keep(resident.seq_id, bytes(resident.tokens), resident.loras)

    def load(self, job: Job) -> int:
        """Bring back `job.n_fetch` tokens at once; return how many are in cells then."""
        wanted = job.key[: job.n_fetch * WORD]
        if not self.has(wanted, job.loras):
            job.n_fetch = job.n_past
            return job.n_past
        if not self.restore(job.seq_id, wanted, job.loras):
            # the sequence is empty now, whatever it held before
            job.n_fetch = 0
        return job.n_fetch

    def forget(self, resident: Resident) -> None:
        """Drop the states of a sequence and of what it begins with."""
        for _, name in list(self._names(bytes(resident.tokens), resident.loras)):
            self._cache.drop(name)

    def longest(self, key: bytes, loras: LoraSet, n_tokens: int) -> int:
        """Return the most first tokens of a prompt, up to `n_tokens`, whose state is kept."""
        for length, name in reversed(self._listed(key, loras)):
            if length <= n_tokens and name in self._cache:
                return length
        return 0

    def has(self, tokens: bytes, loras: LoraSet) -> bool:
        """Whether the state of these very tokens is kept, and undamaged."""
        return self._cache.get(_name(tokens, loras)) is not None

    def restore(self, seq_id: int, tokens: bytes, loras: LoraSet) -> bool:
        """Give a sequence the state of `tokens`; False, and it has none, when that is not there."""
        name = _name(tokens, loras)
        data = self._cache.get(name)
        if data is None:
            return False
        n_tokens = len(tokens) // WORD
        try:
            self._states.restore(seq_id, data, n_tokens, with_media=n_text(tokens) < n_tokens)
        except LlamaError:
            return False
        self._cache.touch([name])
        return True

    def keep(self, seq_id: int, tokens: bytes, loras: LoraSet) -> None:
        """Keep the state of a sequence, which is that of `tokens`."""
        name = _name(tokens, loras)
        if name in self._cache or self._cache.max_bytes == 0:
            self._cache.touch([name])
            return
        if self._states.size(seq_id) > min(MAX_BYTES, self._cache.max_bytes):
            return
        if self._cache.put(name, self._states.save(seq_id)):
            self._lengths[name] = len(tokens) // WORD
            self._last = None
        if len(self._lengths) > 2 * len(self._cache) + 1:
            self._lengths = {n: size for n, size in self._lengths.items() if n in self._cache}

    def _listed(self, key: bytes, loras: LoraSet) -> list[tuple[int, bytes]]:
        if self._last is None or self._last[:2] != (key, loras):
            self._last = (key, loras, list(self._names(key, loras)))
        return self._last[2]

    def _names(self, tokens: bytes, loras: LoraSet) -> Iterator[tuple[int, bytes]]:
        """Yield length and name of each beginning that is as long as some kept state."""
        digest = blake2b(salt(loras), digest_size=16, person=_PERSON)
        done = 0
        for n_tokens in sorted(set(self._lengths.values())):
            end = n_tokens * WORD
            if end > len(tokens):
                return
            digest.update(tokens[done:end])
            done = end
            yield n_tokens, digest.digest()


_PERSON = b"checkpoint"


def _name(tokens: bytes, loras: LoraSet) -> bytes:
    return blake2b(salt(loras) + tokens, digest_size=16, person=_PERSON).digest()
