"""Which rows take part in the next step, and how many tokens each feeds. Policy, no mechanism.

Nothing here touches llama.cpp, a thread or a clock: `plan` says what to do, the caller does it and
tells the outcome with `commit`, or with `make_room` and `pause` when the KV cells ran out.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from typing import TYPE_CHECKING, Protocol

from shimmy.worker.job import Admit, Evict, Job, Plan, Rewind
from shimmy.worker.portions import Portions
from shimmy.worker.resident import common
from shimmy.worker.rotation import Rotation

if TYPE_CHECKING:
    from shimmy.worker.lora_set import LoraSet
    from shimmy.worker.prefix import Found, PrefixIndex
    from shimmy.worker.resident import Resident

HEADROOM = 32
"""Tokens that each running row may grow by before another row is let in beside it: a row that is
let in too early is soon preempted, and its prompt computed again."""

WORTH_WAITING = 32
"""Tokens of a common beginning from which on a prompt waits until another row has taken them in."""

WORTH_FETCHING = 32
"""Tokens from which on it pays to bring them back from host memory."""


class Store(Protocol):
    """What has been saved of evicted sequences."""

    def n_saved(self, key: bytes, loras: LoraSet) -> int:
        """Return how many first tokens of a prompt could be brought back."""

    def marks(self, n_prompt: int) -> list[int]:
        """Return at how many tokens a prompt's intake is to stop for checkpoints, in order."""


class Scheduler:
    """Rows over `n_slots` slots that share `n_cells` KV cells.

    A step feeds up to `n_batch` tokens. While any row generates, waiting prompts together get at
    most `n_bite` of them, and fewer on a slow model, so that a long prompt does not freeze the
    others. What finished rows leave in the cells stays there, up to half of them, for prompts that
    begin alike.
    """

    def __init__(
        self,
        index: PrefixIndex,
        *,
        n_slots: int,
        n_cells: int | None,
        n_batch: int,
        n_bite: int,
        store: Store | None = None,
    ) -> None:
        """All sizes are in tokens, except `n_slots`. Without `n_cells` each slot has its own."""
        self._index = index
        self._store = store
        self._n_cells = n_cells
        self._portions = Portions(n_batch=n_batch, n_bite=n_bite)
        self._rotation = Rotation()
        self._free = list(range(n_slots - 1, -1, -1))
        self._waiting: deque[Job] = deque()
        self._running: dict[int, Job] = {}
        # The same jobs, the oldest first, and those of them that are paused.
        self._rows: list[Job] = []
        self._paused: list[Job] = []
        self._marked: list[Job] = []
        self._fetching: list[Job] = []
        # Which idle sequence the last request of a slot has left.
        self._left: dict[int, int] = {}
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

    @property
    def n_cells_used(self) -> int:
        """Cells that hold tokens, each counted once."""
        return self._index.n_cells

    @property
    def n_cells_idle(self) -> int:
        """Those of them that no running row holds."""
        return self._index.n_idle_cells

    def submit(self, job: Job) -> None:
        """Queue a job behind those that wait."""
        self._waiting.append(job)

    def remove(self, job: Job, *, keep: bool = True) -> int | None:
        """Forget a job, whether it waits or runs, and free its slot.

        Its cells stay for prompts that begin alike; if they are of no use, or without `keep`, the
        caller is to remove those of the sequence that is returned.
        """
        self._congested = False
        if job.slot is None:
            self._waiting.remove(job)
            return None
        slot, job.slot = job.slot, None
        job.n_fetch = 0
        del self._running[slot]
        self._rows.remove(job)
        self._rotation.leave(job.loras)
        if job.paused:
            self._paused.remove(job)
        insort(self._free, slot, key=_descending)
        if not keep:
            self._index.drop(job.seq_id)
        elif self._index.rest(job.seq_id):
            self._left[slot] = job.seq_id
            return None
        return job.seq_id

    def left(self, slot: int) -> int | None:
        """Return the idle sequence that the last request of a slot has left, if it is still there."""
        return None if slot in self._running else self._left.get(slot)

    def left_resident(self, slot: int) -> Resident | None:
        """Return what the sequence of `left` holds."""
        seq_id = self.left(slot)
        return None if seq_id is None else self._index.resident(seq_id)

    def erase(self, slot: int) -> None:
        """Forget the sequence of `left`, whose cells the caller removes."""
        self._index.drop(self._left[slot])
        self._forget_left(self._left[slot])

    def clear(self, n_cells: int, *, n_ids: int) -> tuple[list[Evict], bool]:
        """Evict for `n_cells` and `n_ids` sequences that the caller brings; False: there is no room."""
        over = 0
        if self._n_cells is not None:
            over = max(self._index.n_cells + n_cells - self._n_cells, 0)
        evicted = self._evicted(over, n_ids=n_ids)
        fits = self._n_cells is None or self._index.n_cells + n_cells <= self._n_cells
        return evicted, fits and self._index.n_free_ids >= n_ids

    def adopt(self, slot: int, seq_id: int) -> None:
        """Count a sequence that the caller has filled, and that ran, as what a slot has left."""
        self._index.rest(seq_id)
        self._left[slot] = seq_id

    def running(self, slot: int) -> Job | None:
        """Return the job that has a slot."""
        return self._running.get(slot)

    @property
    def fetching(self) -> list[Job]:
        """Jobs whose row is open, but whose first tokens are to come from host memory."""
        return [job for job in self._fetching if job.n_fetch]

    def take_marked(self) -> list[Job]:
        """Return the jobs that have reached their marks since the last call."""
        marked, self._marked = self._marked, []
        return marked

    def fetched(self, job: Job, n_tokens: int) -> None:
        """Note that a job's first `n_tokens` are in cells; less than were there: it starts over."""
        if n_tokens < job.n_past:
            self._index.rewind(job.seq_id)
            job.n_past = n_tokens = 0
        self._index.extend(job.seq_id, job.tokens[job.n_past : n_tokens])
        job.n_past = job.n_shared = n_tokens
        if n_tokens >= job.n_fetch:
            job.n_fetch = 0

    def shift(self, job: Job, n_keep: int, n_discard: int) -> bool:
        """Forget `n_discard` tokens after the first `n_keep`; False: the rest is fed again."""
        moved = self._index.shift(job.seq_id, n_keep, n_discard)
        del job.tokens[n_keep : n_keep + n_discard]
        job.n_discarded += n_discard
        job.n_past = job.n_past - n_discard if moved else n_keep
        return moved

    def plan(self) -> Plan:
        """Resume and admit what fits, share out the batch, and make room for it."""
        self._resume()
        actions = self._admit()
        loras, rows = self._rotation.rows(self._rows)
        busy = any(job.generating and not job.paused for job in self._rows)
        bites = self._portions.share(rows, busy=busy)
        self._rotation.fed(bites)
        n_tokens = sum(n_tokens for _, n_tokens in bites)
        if self._store is not None:
            # each block that comes back goes through cells of its own
            n_tokens += sum(job.n_fetch - job.n_past + WORTH_FETCHING for job in self.fetching)
        actions += self._trim(n_tokens)
        return Plan(actions, bites, loras, busy)

    def steady(self, bites: list[tuple[int, int]]) -> bool:
        """Whether the step after the one with `bites` would be one token for each of its rows again.

        Asked before that step is committed; the answer is good for the one after it only.
        """
        if self._waiting or self._paused or self._marked or len(bites) != len(self._rows):
            return False
        if any(job.n_past < job.n_mark for job in self._rows) or self.fetching:
            return False
        n_tokens = sum(n_tokens for _, n_tokens in bites) + 2 * len(bites)
        return self._n_cells is None or self._index.n_cells + n_tokens <= self._n_cells

    def commit(self, bites: list[tuple[int, int]], sampled: list[tuple[int, int]]) -> None:
        """Note that `bites` were fed, and (slot, token) of each row that sampled one."""
        for slot, n_tokens in bites:
            job = self._running[slot]
            fed = job.n_past + n_tokens
            self._index.extend(job.seq_id, job.tokens[job.n_past : fed])
            job.n_past = fed
            if fed in job.marks:
                self._marked.append(job)
        for slot, token in sampled:
            self._running[slot].tokens.append(token)

    def observe(self, bites: list[tuple[int, int]], seconds: float) -> None:
        """Learn the model's speed from how long a step with these bites took."""
        self._portions.observe(bites, seconds)

    def make_room(self, bites: list[tuple[int, int]]) -> list[Evict]:
        """Let idle sequences go when the cells did not suffice for `bites`; none: there are none."""
        return self._evicted(max(sum(n for _, n in bites), 1))

    def pause(self) -> Rewind | None:
        """Let the youngest row go on when another has ended, from its first token; None: it is alone."""
        active = self._active()
        if len(active) < 2:
            return None
        job = active[-1]
        self._index.rewind(job.seq_id)
        job.n_past = job.n_fetch = 0
        job.paused = True
        insort(self._paused, job, key=_age)
        self._congested = True
        return Rewind(job)

    def _active(self) -> list[Job]:
        """Running rows that are not paused, the oldest first."""
        return [job for job in self._rows if not job.paused]

    def _room(self, n_cells: int) -> bool:
        """Whether a row that needs `n_cells` fits beside those that run; alone it always does."""
        if self._n_cells is None:
            return True
        active = self._active()
        if not active:
            return True
        if self._congested:
            return False
        held = self._index.n_cells - self._index.n_idle_cells
        held += sum(job.n_waiting + HEADROOM for job in active)
        return held + n_cells + HEADROOM <= self._n_cells

    def _resume(self) -> None:
        while self._paused and self._room(self._paused[0].n_tokens):
            self._paused.pop(0).paused = False

    def _admit(self) -> list[Admit | Evict]:
        actions: list[Admit | Evict] = []
        if self._paused:
            return actions
        for job in list(self._waiting):
            if not self._free:
                break
            found = self._index.find(job.lookup, job.loras)
            n_shared = self._index.n_shared(job.lookup, job.loras, found)
            if not job.fresh and self._worth_waiting(job, n_shared):
                continue
            if not self._room(job.n_tokens - n_shared):
                break
            if self._index.needs_id(job.lookup, job.loras, found):
                actions += self._evicted(0, n_ids=1)
                if not self._index.n_free_ids:
                    break  # a session that is being moved has one
                found = self._index.find(job.lookup, job.loras)
            self._waiting.remove(job)
            actions.append(self._start(job, found))
        return actions

    def _start(self, job: Job, found: Found) -> Admit:
        placement = self._index.place(job.lookup, job.loras, found)
        if placement.source is None:
            self._forget_left(placement.seq_id)
        job.slot = self._free.pop()
        self._left.pop(job.slot, None)
        job.seq_id = placement.seq_id
        job.n_past = job.n_shared = placement.n_shared
        if self._store is not None:
            n_saved = self._store.n_saved(job.lookup, job.loras)
            if placement.incomplete or n_saved >= job.n_past + WORTH_FETCHING:
                job.n_fetch = max(n_saved, job.n_past)
            job.mark(self._store.marks(job.n_tokens))
            self._fetching = [*self.fetching, job]
        self._running[job.slot] = job
        self._rotation.enter(job.loras)
        insort(self._rows, job, key=_age)
        return Admit(job, placement)

    def _worth_waiting(self, job: Job, n_shared: int) -> bool:
        """Whether a row that takes in its prompt right now will soon have more to share."""
        for other in self._rows:
            if other.paused or other.generating or other.loras != job.loras:
                continue
            needed = max(n_shared, other.n_past, WORTH_WAITING) + 1
            if self._index.could_share(job.key, other.key, needed):
                other.branch(common(job.key, other.key))
                return True
        return False

    def _trim(self, n_tokens: int) -> list[Evict]:
        """Evict what stands in the way of `n_tokens` more, or is over the share of idle cells.

        Idle cells cost a little in each step: attention runs over them too, masked.
        """
        if self._n_cells is None:
            return []
        over = max(
            self._index.n_cells + n_tokens - self._n_cells,
            self._index.n_idle_cells - self._n_cells // 2,
        )
        return self._evicted(over) if over > 0 else []

    def _evicted(self, n_cells: int, n_ids: int = 0) -> list[Evict]:
        dropped = self._index.evict(n_cells, n_ids=n_ids)
        for resident in dropped:
            self._forget_left(resident.seq_id)
        return [Evict(resident) for resident in dropped]

    def _forget_left(self, seq_id: int) -> None:
        """A sequence is no longer what a slot's last request has left."""
        for slot, left in list(self._left.items()):
            if left == seq_id:
                del self._left[slot]


def _age(job: Job) -> int:
    """Order by arrival: ids are given out in that order."""
    return job.id


def _descending(slot: int) -> int:
    return -slot
