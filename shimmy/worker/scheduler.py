"""Which rows take part in the next step, and how many tokens each feeds. Policy, no mechanism.

Nothing here touches llama.cpp, a thread or a clock: `plan` says what to do, the caller does it and
tells the outcome with `commit`, or with `preempt` when the KV cells ran out.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

HEADROOM = 32
"""Tokens that each running row may grow by before another row is let in beside it: a row that is
let in too early is soon preempted, and its prompt computed again."""


@dataclass(slots=True)
class Job:
    """A request as the scheduler sees it: `n_tokens` known tokens, `n_past` of them in cells."""

    id: int
    n_tokens: int
    n_past: int = 0
    slot: int | None = None
    paused: bool = False

    @property
    def n_waiting(self) -> int:
        """Tokens that wait to be fed."""
        return self.n_tokens - self.n_past

    @property
    def generating(self) -> bool:
        """Whether only the token sampled last waits."""
        return self.n_past > 0 and self.n_waiting == 1


@dataclass(frozen=True, slots=True)
class Plan:
    """One step: the jobs that got a slot, and (slot, tokens to feed) of each row in it."""

    admitted: list[Job] = field(default_factory=list)
    bites: list[tuple[int, int]] = field(default_factory=list)


class Scheduler:
    """Rows over `n_slots` slots that share `n_cells` KV cells.

    A step feeds up to `n_batch` tokens. While any row generates, waiting prompts together get at
    most `n_bite` of them, so that a long prompt does not freeze the others.
    """

    def __init__(self, *, n_slots: int, n_cells: int, n_batch: int, n_bite: int) -> None:
        """All sizes are in tokens, except `n_slots`."""
        self._n_cells = n_cells
        self._n_batch = n_batch
        self._n_bite = n_bite
        self._free = list(range(n_slots - 1, -1, -1))
        self._waiting: deque[Job] = deque()
        self._running: dict[int, Job] = {}
        # Since the last preemption no row has ended: letting one in would only fail again.
        self._congested = False

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self._waiting and not self._running

    @property
    def n_waiting(self) -> int:
        """Jobs without a slot."""
        return len(self._waiting)

    @property
    def n_running(self) -> int:
        """Jobs with a slot, paused ones too."""
        return len(self._running)

    def submit(self, job: Job) -> None:
        """Queue a job behind those that wait."""
        self._waiting.append(job)

    def remove(self, job: Job) -> None:
        """Forget a job, whether it waits or runs; its slot is free again."""
        self._congested = False
        if job.slot is None:
            self._waiting.remove(job)
        else:
            del self._running[job.slot]
            self._free.append(job.slot)
            self._free.sort(reverse=True)
            job.slot = None

    def plan(self) -> Plan:
        """Resume and admit what fits, then share out the batch."""
        self._resume()
        return Plan(self._admit(), self._bites())

    def commit(self, bites: list[tuple[int, int]], sampled: list[int]) -> None:
        """Note that `bites` were fed and that the rows in the slots `sampled` have a new token."""
        for slot, n_tokens in bites:
            self._running[slot].n_past += n_tokens
        for slot in sampled:
            self._running[slot].n_tokens += 1

    def preempt(self) -> Job | None:
        """Pause the youngest running row and return it; None when only one runs.

        Its cells are to be dropped; it is fed again from its first token when there is room.
        """
        active = self._active()
        if len(active) < 2:
            return None
        job = active[-1]
        job.n_past = 0
        job.paused = True
        self._congested = True
        return job

    def _active(self) -> list[Job]:
        """Running rows that are not paused, the oldest first."""
        return sorted((job for job in self._running.values() if not job.paused), key=_age)

    def _room(self, n_tokens: int) -> bool:
        """Whether a row of `n_tokens` fits beside those that run; alone it always does."""
        active = self._active()
        if not active:
            return True
        if self._congested:
            return False
        held = sum(job.n_tokens + HEADROOM for job in active)
        return held + n_tokens + HEADROOM <= self._n_cells

    def _resume(self) -> None:
        for job in sorted(self._running.values(), key=_age):
            if job.paused:
                if not self._room(job.n_tokens):
                    return
                job.paused = False

    def _admit(self) -> list[Job]:
        admitted: list[Job] = []
        if any(job.paused for job in self._running.values()):
            return admitted
        while self._waiting and self._free and self._room(self._waiting[0].n_tokens):
            job = self._waiting.popleft()
            job.slot = self._free.pop()
            self._running[job.slot] = job
            admitted.append(job)
        return admitted

    def _bites(self) -> list[tuple[int, int]]:
        active = self._active()
        bites = [(job.slot, 1) for job in active if job.generating and job.slot is not None]
        prompts = sorted(
            (job for job in active if not job.generating), key=lambda job: job.n_waiting
        )
        budget = self._n_batch - len(bites)
        if bites:
            budget = min(budget, self._n_bite)
        for i, job in enumerate(prompts):
            # what a short prompt leaves of its share goes to the longer ones behind it
            share = max(budget // (len(prompts) - i), 1)
            n_tokens = min(job.n_waiting, share, budget)
            if n_tokens > 0 and job.slot is not None:
                bites.append((job.slot, n_tokens))
                budget -= n_tokens
        return bites


def _age(job: Job) -> int:
    """Order by arrival: ids are given out in that order."""
    return job.id
