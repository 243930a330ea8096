"""Where sequences can be gone on with when some layers keep only a window of each, and how.

The other layers' cells are shared and moved as ever. The window of a running row is in the cells,
that of an idle one too as long as nobody else needs those; some are kept in host memory. llama.cpp
writes over what a sequence does not see any more even where there are enough cells to keep all.
Thread: the engine's.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from shimmy.worker.lora_set import NO_LORAS, LoraSet
from shimmy.worker.pager import SECONDS
from shimmy.worker.resident import WORD

if TYPE_CHECKING:
    from shimmy.llama.window import Window
    from shimmy.worker.checkpoints import Checkpoints
    from shimmy.worker.job import Job
    from shimmy.worker.pager import Pager
    from shimmy.worker.resident import Resident


class Idle(Protocol):
    """What an index knows."""

    def idle(self) -> list[Resident]:
        """Return the idle sequences, the longest unused first."""


class Live:
    """Sequences can be gone on with where their window is in the cells, and nowhere else."""

    def __init__(self, window: Window) -> None:
        """`window` is the context's."""
        self._window = window

    def live(self, resident: Resident, n_tokens: int) -> bool:
        """Whether what is seen behind the first `n_tokens` of a resident is in its cells."""
        return self._window.reaches(resident.seq_id, n_tokens)

    def kept(self, key: bytes, loras: LoraSet, n_tokens: int) -> int:  # noqa: ARG002
        """Say that nothing can be brought."""
        return 0


class Windows(Live):
    """A `Pager` for the layers that keep all and `Checkpoints` of the others, in one's place."""

    def __init__(self, window: Window, checkpoints: Checkpoints, pager: Pager | None) -> None:
        """Without a `pager` what leaves the cells is lost."""
        super().__init__(window)
        self._checkpoints = checkpoints
        self._pager = pager
        self._index: Idle | None = None

    def watch(self, index: Idle) -> None:
        """Learn from `index` which sequences are idle."""
        self._index = index

    def kept(self, key: bytes, loras: LoraSet, n_tokens: int) -> int:
        """Return the most first tokens of a prompt, up to `n_tokens`, whose window is kept."""
        return self._checkpoints.longest(key, loras, n_tokens)

    def begin(self, *, busy: bool) -> None:
        """Start the time of a step, which is short while rows generate."""
        self._checkpoints.begin(busy=busy)
        if self._pager is not None:
            self._pager.begin(busy=busy)

    def n_saved(self, key: bytes, loras: LoraSet = NO_LORAS) -> int:
        """Return how many first tokens of a prompt could be brought back."""
        if self._pager is None:
            return 0
        n_tokens = self._pager.n_saved(key, loras) + self._pager.n_block
        while n_tokens := self.kept(key, loras, n_tokens):
            if self._pager.could_end(key, loras, n_tokens):
                break
            n_tokens -= 1
        return n_tokens

    def marks(self, n_prompt: int) -> list[int]:
        """Return where a prompt's intake is to stop for `checkpoint`, in order."""
        return self._checkpoints.marks(n_prompt)

    def checkpoint(self, job: Job) -> None:
        """Keep the window that a row has reached."""
        self._checkpoints.checkpoint(job)
        if self._pager is not None:
            self._pager.save_tail(job.seq_id, job.key[: job.n_past * WORD], job.loras)

    def save(self, resident: Resident) -> None:
        """Keep what an idle sequence holds, which is removed then."""
        if self._pager is not None:
            self._keep(resident)
            self._pager.save(resident)
            self._pager.save_tail(resident.seq_id, bytes(resident.tokens), resident.loras)

    def load(self, job: Job) -> int:
        """Bring back what fits into this step, the window last; 0: nothing is left in the cells."""
        n_fetch, n_past = job.n_fetch, job.n_past
        if self._pager is not None and n_past < n_fetch:
            n_past = self._pager.load(job)
        if n_past < n_fetch == job.n_fetch:
            return n_past
        wanted = job.key[: n_fetch * WORD]
        if n_past == n_fetch and self._restore(job.seq_id, wanted, job.loras):
            return n_fetch
        if self._pager is not None:
            self._pager.drop(job)
        job.n_fetch = 0
        return 0

    def complete(self, resident: Resident) -> bool:
        """Give an idle sequence its window again; False when it is not kept."""
        if self.live(resident, resident.n_tokens):
            return True
        return self._restore(resident.seq_id, bytes(resident.tokens), resident.loras)

    def relieve(self) -> bool:
        """Make room in the layers of the window; False when nothing there can go.

        What nobody sees any more goes, or else the windows of half of the idle sequences, as far
        as a step's time suffices to keep them.
        """
        if self._window.trim():
            return True
        idle = [] if self._index is None else self._index.idle()
        held = [one for one in idle if self._window.holds(one.seq_id)]
        until = time.monotonic() + SECONDS
        for resident in held[: (len(held) + 1) // 2]:
            self._keep(resident)
            self._window.remove(resident.seq_id)
            if time.monotonic() > until:
                break
        return bool(held)

    def forget(self, resident: Resident) -> None:
        """Drop all that is kept of a sequence and of what it begins with."""
        self._checkpoints.forget(resident)
        if self._pager is not None:
            self._pager.forget(resident)

    def _keep(self, resident: Resident) -> None:
        if self.live(resident, resident.n_tokens):
            self._checkpoints.save(resident)

    def _restore(self, seq_id: int, tokens: bytes, loras: LoraSet) -> bool:
        while self._checkpoints.has(tokens, loras):
            if self._checkpoints.restore(seq_id, tokens, loras):
                return True
            if self._pager is None or not self.relieve():
                break
        return False
