"""Which tokens lie in which cells: all resident sequences, running or idle, and the prefixes they share.

A sequence that begins like another, computed with the same adapters, shares that one's cells. Cells
are counted in spans, each held by the sequences that share it, so that the sum over the index is
what the KV cache really uses.
Nothing here touches llama.cpp: the caller copies and removes sequences as it is told.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Protocol

from shimmy.worker.lora_set import NO_LORAS, LoraSet
from shimmy.worker.resident import WORD, Resident, common
from shimmy.worker.spans import Spans

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_SEQUENCES = 256
"""LLAMA_MAX_SEQ: ids beyond those of the rows hold what finished rows leave (unified cells only)."""


class Sharing(Enum):
    """What a prompt may take over of a resident sequence."""

    CELLS = auto()
    """Any prefix of any sequence, by a metadata copy: one pool of cells for all."""
    CUT = auto()
    """An idle sequence, cut back to the prefix: each sequence has cells of its own."""
    WHOLE = auto()
    """An idle sequence whose tokens all begin the prompt: recurrent memory cannot be cut."""


class Reach(Protocol):
    """Where sequences can be gone on with, when not all layers keep all of them."""

    def live(self, resident: Resident, n_tokens: int) -> bool:
        """Whether what is needed behind the first `n_tokens` of a resident is in its cells."""

    def kept(self, key: bytes, loras: LoraSet, n_tokens: int) -> int:
        """Return the most first tokens of a prompt, up to `n_tokens`, for which it can be brought."""


CUT_WORTH = 10
"""An idle sequence is cut back only for a prefix of at least one part in so many of the prompt, as
long as there are empty ones."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a prompt goes: its sequence, and how many first tokens are there or are to be copied.

    `source` None: they are in the sequence already. `incomplete`: before it goes on, what not all
    layers keep is to be brought.
    """

    seq_id: int
    n_shared: int = 0
    source: int | None = None
    incomplete: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """A sequence and how many of its first tokens a prompt begins with."""

    best: Resident | None
    n_tokens: int


class PrefixIndex:
    """Sequences `first` to `n_seq` - 1 over one cache."""

    def __init__(
        self,
        n_seq: int,
        *,
        first: int = 0,
        sharing: Sharing = Sharing.CELLS,
        reach: Reach | None = None,
    ) -> None:
        """Every id is free. Without `reach` a sequence can be gone on with anywhere."""
        self._free = list(range(n_seq - 1, first - 1, -1))
        self._residents: dict[int, Resident] = {}
        self._sharing = sharing
        self._reach = reach
        self._clock = 0
        self._spans = Spans(self._residents)

    @property
    def n_cells(self) -> int:
        """Cells in use, each counted once."""
        return self._spans.n_cells

    @property
    def n_idle_cells(self) -> int:
        """Cells that only idle sequences hold: what eviction can free."""
        return self._spans.n_idle_cells

    @property
    def n_free_ids(self) -> int:
        """How many sequences can be added."""
        return len(self._free)

    def resident(self, seq_id: int) -> Resident | None:
        """Return a sequence, None when it is not resident."""
        return self._residents.get(seq_id)

    def idle(self) -> list[Resident]:
        """Return the idle sequences, the one that would be evicted first before the others."""
        return sorted((one for one in self._residents.values() if not one.running), key=_last_used)

    def find(self, key: bytes, loras: LoraSet = NO_LORAS) -> Found:
        """Look for the longest prefix of a prompt; `key` is its `prefix_key`.

        The others take what it returns, until something changes, and look no further.
        """
        return Found(*self._longest(key, loras))

    def needs_id(self, key: bytes, loras: LoraSet = NO_LORAS, found: Found | None = None) -> bool:
        """Whether `place` would take a free id, of which there is none."""
        if self._free:
            return False
        found = found or self.find(key, loras)
        return not self._in_place(found.best, found.n_tokens, key)

    def place(self, key: bytes, loras: LoraSet = NO_LORAS, found: Found | None = None) -> Placement:
        """Give a prompt a sequence, sharing the longest prefix there is; `key` is its `prefix_key`.

        The caller frees an id with `evict` first where `needs_id` says so.
        """
        found = found or self.find(key, loras)
        best, n_shared = found.best, found.n_tokens
        incomplete = best is not None and not self._is_live(best, n_shared)
        if best is not None and self._in_place(best, n_shared, key):
            self._spans.cut(best, n_shared)
            self._spans.run(best)
            self._touch(best)
            return Placement(best.seq_id, n_shared, incomplete=incomplete)
        resident = self._add(loras)
        if best is None or self._sharing is not Sharing.CELLS:
            return Placement(resident.seq_id)
        self._spans.share(best, resident, n_shared)
        return Placement(resident.seq_id, n_shared, best.seq_id, incomplete)

    def open(self, loras: LoraSet = NO_LORAS) -> int:
        """Add an empty sequence that runs, for the caller to fill; there must be a free id."""
        return self._add(loras).seq_id

    def copy(self, seq_id: int) -> int:
        """Add a sequence that runs and holds what another does; there must be a free id."""
        source = self._residents[seq_id]
        copied = self._add(source.loras)
        self._spans.share(source, copied, source.n_tokens)
        return copied.seq_id

    def touch(self, seq_id: int) -> None:
        """Let a sequence be the last to be evicted."""
        self._touch(self._residents[seq_id])

    def extend(self, seq_id: int, tokens: Iterable[int]) -> None:
        """Note that `tokens` were fed to a running sequence."""
        resident = self._residents[seq_id]
        data = array("i", tokens).tobytes()
        if not data:
            return
        n = len(data) // WORD
        if resident.n_hidden:
            resident.n_hidden += n
        else:
            resident.tokens += data
        self._spans.grow(resident, n)

    def rewind(self, seq_id: int) -> None:
        """Note that a running sequence's cells were dropped; its id stays its own."""
        self._spans.cut(self._residents[seq_id], 0)

    def shift(self, seq_id: int, n_keep: int, n_discard: int) -> bool:
        """Note that `n_discard` cells after the first `n_keep` go, and those behind them move up.

        False when others hold some of those, which then cannot be moved: all after `n_keep` are
        given up instead, and the caller feeds them again.
        """
        resident = self._residents[seq_id]
        moving = self._spans.tail(resident, n_keep)
        alone = all(span.n_holders == 1 for span in moving)
        n_left = sum(span.n for span in moving) - n_discard
        n_hidden = max(n_keep - resident.n_tokens, 0)
        self._spans.cut(resident, n_keep)
        if alone:
            self._spans.grow(resident, n_left)
            n_hidden += n_left
        resident.n_hidden = n_hidden
        return alone

    def rest(self, seq_id: int) -> bool:
        """Keep a sequence that no row runs any more, for prompts that begin like it.

        False when it is of no use: then it is forgotten, and the caller removes its cells.
        """
        resident = self._residents[seq_id]
        if resident.n_hidden or not resident.spans:
            self.drop(seq_id)
            return False
        self._spans.rest(resident)
        self._touch(resident)
        return True

    def drop(self, seq_id: int) -> None:
        """Forget a sequence, whose cells the caller removes; its id is free again."""
        resident = self._residents.pop(seq_id)
        self._spans.leave(resident)
        self._free.append(seq_id)

    def n_shared(self, key: bytes, loras: LoraSet = NO_LORAS, found: Found | None = None) -> int:
        """Return how many first tokens of a prompt `place` would find."""
        found = found or self.find(key, loras)
        shares = self._sharing is Sharing.CELLS or self._in_place(found.best, found.n_tokens, key)
        return found.n_tokens if shares else 0

    def could_share(self, left: bytes, right: bytes, n_tokens: int) -> bool:
        """Whether two prompts could share `n_tokens` first tokens while both run."""
        if self._sharing is not Sharing.CELLS or len(left) < n_tokens * WORD:
            return False
        return right.startswith(left[: n_tokens * WORD])

    def evict(self, n_cells: int, *, n_ids: int = 0) -> list[Resident]:
        """Drop idle sequences, the longest unused first, until `n_cells` and `n_ids` ids are freed.

        Returns the sequences that the caller is to remove; fewer cells may be freed than asked.
        """
        dropped = []
        n_before = self._spans.n_cells
        for resident in sorted(self._residents.values(), key=_last_used):
            if n_before - self._spans.n_cells >= n_cells and len(self._free) >= n_ids:
                break
            if not resident.running:
                self.drop(resident.seq_id)
                dropped.append(resident)
        return dropped

    def faults(self) -> list[str]:
        """Return what does not add up among ids, spans and their holders: nothing, if all is well."""
        found = self._spans.faults()
        if set(self._free) & set(self._residents):
            found.append("an id is both free and in use")
        return found

    def _add(self, loras: LoraSet) -> Resident:
        """Add an empty sequence, which runs."""
        resident = Resident(self._free.pop(), running=True, used=0, loras=loras)
        self._touch(resident)
        self._residents[resident.seq_id] = resident
        return resident

    def _touch(self, resident: Resident) -> None:
        self._clock += 1
        resident.used = self._clock

    def _longest(self, wanted: bytes, loras: LoraSet) -> tuple[Resident | None, int]:
        """Return the resident with the longest usable prefix; of equals an idle one, then the newest."""
        best: Resident | None = None
        best_rank = (0, False, 0)
        # what a resident must begin with to be as good as the best so far, and to be better
        equal, better = wanted[:WORD] or None, wanted[:WORD]
        for resident in self._residents.values():
            if equal is None or not resident.tokens.startswith(equal):
                continue
            if resident.loras != loras:
                continue
            if self._sharing is not Sharing.CELLS and resident.running:
                continue
            if self._sharing is Sharing.WHOLE and not wanted.startswith(resident.tokens):
                continue
            n = best_rank[0]
            if (best is None or len(better) > len(equal)) and resident.tokens.startswith(better):
                n = common(wanted, resident.tokens)
            elif (not resident.running, resident.used) < best_rank[1:]:
                continue
            if not self._is_live(resident, n):
                n = self._reach.kept(wanted, loras, n) if self._reach is not None else 0
            if n == 0:
                continue
            rank = (n, not resident.running, resident.used)
            if rank > best_rank:
                best, best_rank = resident, rank
                equal, better = wanted[: n * WORD], wanted[: (n + 1) * WORD]
        return best, best_rank[0]

    def _is_live(self, resident: Resident, n_tokens: int) -> bool:
        return self._reach is None or self._reach.live(resident, n_tokens)

    def _in_place(self, best: Resident | None, n_shared: int, key: bytes) -> bool:
        """Whether a prompt goes on in the sequence itself that shares `n_shared` with it."""
        if best is None or best.running:
            return False
        if self._sharing is Sharing.CUT:
            return not self._free or n_shared * CUT_WORTH * WORD >= len(key)
        return n_shared == best.n_tokens


def _last_used(resident: Resident) -> int:
    return resident.used
