"""A request as the scheduler sees it, and what a plan asks the loop to do."""

from __future__ import annotations

from bisect import bisect, insort
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shimmy.worker.lora_set import NO_LORAS, LoraSet
from shimmy.worker.resident import prefix_key

if TYPE_CHECKING:
    from shimmy.worker.medium import Medium
    from shimmy.worker.prefix import Placement
    from shimmy.worker.resident import Resident


@dataclass(slots=True)
class Job:
    """A choice of a request as the scheduler sees it: `tokens` known so far, `n_past` in cells.

    A `fresh` one takes in its whole prompt by itself; one that is `scored` has logits for all of it.

    `n_fetch` of its first tokens are to come from host memory before it is fed, 0: none. Its intake
    stops at each of `marks` for a checkpoint. `n_discarded` tokens were forgotten by context shifts.
    It runs only beside jobs with the same `loras`. Each of `media` is fed whole, in a step of its own.
    """

    id: int
    tokens: list[int]
    n_past: int = 0
    n_shared: int = 0
    n_fetch: int = 0
    marks: list[int] = field(default_factory=list)
    media: list[Medium] = field(default_factory=list)
    n_discarded: int = 0
    slot: int | None = None
    seq_id: int = -1
    paused: bool = False
    fresh: bool = False
    scored: bool = False
    loras: LoraSet = NO_LORAS
    key: bytes = field(init=False)

    def __post_init__(self) -> None:
        """Make the key once: a job may wait for many plans."""
        self.key = prefix_key(self.tokens)

    @property
    def lookup(self) -> bytes:
        """What is looked for in the cells: nothing, if its prompt is to be computed anew."""
        return b"" if self.fresh else self.key

    @property
    def n_run(self) -> int:
        """Tokens that can be fed in one step: those of a medium, or those up to the next one."""
        for medium in self.media:
            if medium.end > self.n_past:
                return (medium.end if self.at_medium else medium.start) - self.n_past
        return self.n_waiting

    @property
    def at_medium(self) -> bool:
        """Whether a medium is to be fed next."""
        return any(medium.start == self.n_past for medium in self.media)

    def mark(self, marks: list[int]) -> None:
        """Stop its intake at these tokens, but not inside media."""
        self.marks = [
            n for n in marks if not any(medium.start < n < medium.end for medium in self.media)
        ]

    @property
    def n_mark(self) -> int:
        """Tokens at which its intake stops next, 0: nowhere. Asked for every row of every step."""
        if not self.marks or self.marks[-1] <= self.n_past:
            return 0
        return self.marks[bisect(self.marks, self.n_past)]

    def branch(self, n_tokens: int) -> None:
        """Stop there too, as others begin with so many of its tokens; it has marks already."""
        if self.marks and n_tokens > self.n_past and n_tokens not in self.marks:
            insort(self.marks, n_tokens)

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
    """Remove the cells of an idle sequence, which the index has forgotten."""

    resident: Resident

    @property
    def seq_id(self) -> int:
        """The sequence."""
        return self.resident.seq_id


@dataclass(frozen=True, slots=True)
class Rewind:
    """Remove the cells of a running row, which then starts over."""

    job: Job


@dataclass(frozen=True, slots=True)
class Plan:
    """One step: what to do first, in this order, and (slot, tokens to feed) of each row in it.

    All of these rows use the adapters of `loras`. `busy`: rows generate, in this step or another.
    """

    actions: list[Admit | Evict] = field(default_factory=list)
    bites: list[tuple[int, int]] = field(default_factory=list)
    loras: LoraSet = NO_LORAS
    busy: bool = False
