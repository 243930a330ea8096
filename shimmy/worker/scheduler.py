"""Which rows take part in the next step, and how many tokens each feeds. Policy, no mechanism.

Nothing here touches llama.cpp, a thread or a clock: `plan` says what to do, the caller does it and
tells the outcome with `commit`, or with `make_room` when the KV cells ran out.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from shimmy.worker.prefix import Placement, PrefixIndex, prefix_key

HEADROOM = 32
"""Tokens that each running row may grow by before another row is let in beside it: a row that is
let in too early is soon preempted, and its prompt computed again."""

BITE_SECONDS = 0.9
"""How long a step may take that feeds prompts while rows generate: their longest pause."""

MIN_BITE = 16
"""Tokens that prompts get in such a step however slow the model is."""

FIRST_BITE = 64
"""Tokens that they get while its speed is not known yet."""

WORTH_WAITING = 32
"""Tokens of a common beginning from which on a prompt waits until another row has taken them in."""


@dataclass(slots=True)
class Job:
    """A request as the scheduler sees it: `tokens` known so far, `n_past` of them in cells."""

    id: int
    tokens: list[int]
    n_past: int = 0
    n_shared: int = 0
    slot: int | None = None
    seq_id: int = -1
    paused: bool = False
    key: bytes = field(init=False)

    def __post_init__(self) -> None:
        """Make the key once: a job may wait for many plans."""
        self.key = prefix_key(self.tokens)

    @property
    def n_tokens(self) -> int:
        """Tokens of the prompt and of the answer so far."""
        return len(self.tokens)

    @property
    def n_waiting(self) -> int:
        """Tokens that wait to be fed."""
        return len(self.tokens) - self.n_past

    @property
    def generating(self) -> bool:
        """Whether only the token sampled last waits."""
        return self.n_past > 0 and self.n_waiting == 1


@dataclass(frozen=True, slots=True)
class Admit:
    """Open a row for `job`, whose prompt lies where `placement` says."""

    job: Job
    placement: Placement


@dataclass(frozen=True, slots=True)
class Evict:
    """Remove the cells of a sequence."""

    seq_id: int


@dataclass(frozen=True, slots=True)
class Rewind:
    """Remove the cells of a running row, which then starts over."""

    job: Job


@dataclass(frozen=True, slots=True)
class Plan:
    """One step: what to do first, in this order, and (slot, tokens to feed) of each row in it."""

    actions: list[Admit | Evict] = field(default_factory=list)
    bites: list[tuple[int, int]] = field(default_factory=list)


class Scheduler:
    """Rows over `n_slots` slots that share `n_cells` KV cells.

    A step feeds up to `n_batch` tokens. While any row generates, waiting prompts together get at
    most `n_bite` of them, and fewer on a slow model, so that a long prompt does not freeze the
    others. What finished rows
    leave in the cells stays there, up to half of them, for prompts that begin alike.
    """

    def __init__(
        self, index: PrefixIndex, *, n_slots: int, n_cells: int, n_batch: int, n_bite: int
    ) -> None:
        """All sizes are in tokens, except `n_slots`."""
        self._index = index
        self._n_cells = n_cells
        self._n_batch = n_batch
        self._n_bite = n_bite
        self._free = list(range(n_slots - 1, -1, -1))
        self._waiting: deque[Job] = deque()
        self._running: dict[int, Job] = {}
        # Seconds that a prompt's token takes, a moving mean.
        self._token_seconds: float | None = None
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

    def remove(self, job: Job, *, keep: bool = True) -> Evict | None:
        """Forget a job, whether it waits or runs, and free its slot.

        Its cells stay for prompts that begin alike; if they are of no use, or without `keep`, the
        caller is told to remove them.
        """
        self._congested = False
        if job.slot is None:
            self._waiting.remove(job)
            return None
        del self._running[job.slot]
        self._free.append(job.slot)
        self._free.sort(reverse=True)
        job.slot = None
        if not keep:
            self._index.drop(job.seq_id)
        elif self._index.rest(job.seq_id):
            return None
        return Evict(job.seq_id)

    def plan(self) -> Plan:
        """Resume and admit what fits, share out the batch, and make room for it."""
        self._resume()
        actions = self._admit()
        bites = self._bites()
        actions += self._trim(sum(n_tokens for _, n_tokens in bites))
        return Plan(actions, bites)

    def commit(self, bites: list[tuple[int, int]], sampled: list[tuple[int, int]]) -> None:
        """Note that `bites` were fed, and (slot, token) of each row that sampled one."""
        for slot, n_tokens in bites:
            job = self._running[slot]
            fed = job.n_past + n_tokens
            self._index.extend(job.seq_id, job.tokens[job.n_past : fed])
            job.n_past = fed
        for slot, token in sampled:
            self._running[slot].tokens.append(token)

    def observe(self, bites: list[tuple[int, int]], seconds: float) -> None:
        """Learn the model's speed from how long a step with these bites took."""
        n_tokens = sum(n for _, n in bites if n > 1)
        if n_tokens < MIN_BITE:
            return
        seen = seconds / n_tokens
        known = self._token_seconds
        self._token_seconds = seen if known is None else 0.7 * known + 0.3 * seen

    def make_room(self, bites: list[tuple[int, int]]) -> list[Evict] | Rewind | None:
        """Say what to do when the cells did not suffice for `bites`; None when nothing helps.

        Idle sequences go first. Then the youngest row pauses: it is fed again from its first token
        when another has ended.
        """
        evicted = self._index.evict(max(sum(n for _, n in bites), 1))
        if evicted:
            return [Evict(seq_id) for seq_id in evicted]
        active = self._active()
        if len(active) < 2:
            return None
        job = active[-1]
        self._index.rewind(job.seq_id)
        job.n_past = 0
        job.paused = True
        self._congested = True
        return Rewind(job)

    def _active(self) -> list[Job]:
        """Running rows that are not paused, the oldest first."""
        return sorted((job for job in self._running.values() if not job.paused), key=_age)

    def _room(self, n_cells: int) -> bool:
        """Whether a row that needs `n_cells` fits beside those that run; alone it always does."""
        active = self._active()
        if not active:
            return True
        if self._congested:
            return False
        held = self._index.n_cells - self._index.n_idle_cells
        held += sum(job.n_waiting + HEADROOM for job in active)
        return held + n_cells + HEADROOM <= self._n_cells

    def _resume(self) -> None:
        for job in sorted(self._running.values(), key=_age):
            if job.paused:
                if not self._room(job.n_tokens):
                    return
                job.paused = False

    def _admit(self) -> list[Admit | Evict]:
        actions: list[Admit | Evict] = []
        if any(job.paused for job in self._running.values()):
            return actions
        for job in list(self._waiting):
            n_shared = self._index.n_shared(job.key)
            if self._free and self._worth_waiting(job, n_shared):
                continue
            if not self._free or not self._room(job.n_tokens - n_shared):
                break
            self._waiting.remove(job)
            actions += [Evict(seq_id) for seq_id in self._index.evict(0, n_ids=1)]
            placement = self._index.place(job.key)
            job.slot = self._free.pop()
            job.seq_id = placement.seq_id
            job.n_past = job.n_shared = placement.n_shared
            self._running[job.slot] = job
            actions.append(Admit(job, placement))
        return actions

    def _worth_waiting(self, job: Job, n_shared: int) -> bool:
        """Whether a row that takes in its prompt right now will soon have more to share."""
        for other in self._running.values():
            if other.paused or other.generating:
                continue
            n_common = self._index.n_common(job.key, other.key)
            if n_common > max(n_shared, other.n_past, WORTH_WAITING):
                return True
        return False

    def _trim(self, n_tokens: int) -> list[Evict]:
        """Evict what stands in the way of `n_tokens` more, or is over the share of idle cells.

        Idle cells cost a little in each step: attention runs over them too, masked.
        """
        over = max(
            self._index.n_cells + n_tokens - self._n_cells,
            self._index.n_idle_cells - self._n_cells // 2,
        )
        return [Evict(seq_id) for seq_id in self._index.evict(over)] if over > 0 else []

    def _bite_limit(self) -> int:
        """Prompt tokens for a step in which rows generate."""
        if self._token_seconds is None:
            return min(FIRST_BITE, self._n_bite)
        affordable = int(BITE_SECONDS / max(self._token_seconds, 1e-9))
        return min(max(affordable, MIN_BITE), self._n_bite)

    def _bites(self) -> list[tuple[int, int]]:
        active = self._active()
        bites = [(job.slot, 1) for job in active if job.generating and job.slot is not None]
        prompts = sorted(
            (job for job in active if not job.generating), key=lambda job: job.n_waiting
        )
        budget = self._n_batch - len(bites)
        if bites:
            budget = min(budget, self._bite_limit())
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
