"""Which tokens lie in which cells: all resident sequences, running or idle, and the prefixes they share.

A sequence that begins like another shares that one's cells. Cells are counted in spans, each held by
the sequences that share it, so that the sum over the index is what the KV cache really uses.
Nothing here touches llama.cpp: the caller copies and removes sequences as it is told.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

MAX_SEQUENCES = 256
"""LLAMA_MAX_SEQ: ids beyond those of the rows hold what finished rows leave (unified cells only)."""

_WORD = 4
"""Bytes of a token."""


def prefix_key(prompt: Sequence[int]) -> bytes:
    """Return what a prompt is looked up by: its tokens but the last, which is always left to feed."""
    return array("i", prompt[:-1]).tobytes()


@dataclass(slots=True, eq=False)
class Span:
    """A run of `n` cells that `n_holders` sequences hold together."""

    n: int
    n_holders: int = 1


@dataclass(slots=True, eq=False)
class Resident:
    """A sequence in the cache: its tokens, as little-endian int32, and the spans they lie in."""

    seq_id: int
    running: bool
    used: int
    tokens: bytearray = field(default_factory=bytearray)
    spans: list[Span] = field(default_factory=list)

    @property
    def n_tokens(self) -> int:
        """Tokens of the sequence that are in cells."""
        return len(self.tokens) // _WORD


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a prompt goes: its sequence, and how many first tokens are there or are to be copied.

    `source` None: they are in the sequence already.
    """

    seq_id: int
    n_shared: int = 0
    source: int | None = None


class PrefixIndex:
    """Sequences 0 to `n_seq` - 1 over one cache."""

    def __init__(self, n_seq: int, *, sharing: bool = True) -> None:
        """Without `sharing` (recurrent memory, separate streams) every prompt starts from nothing."""
        self._free = list(range(n_seq - 1, -1, -1))
        self._residents: dict[int, Resident] = {}
        self._sharing = sharing
        self._clock = 0

    @property
    def n_cells(self) -> int:
        """Cells in use, each counted once."""
        return sum(span.n for span in self._spans())

    @property
    def n_idle_cells(self) -> int:
        """Cells that only idle sequences hold: what eviction can free."""
        running = {
            id(span) for one in self._residents.values() if one.running for span in one.spans
        }
        return sum(span.n for span in self._spans() if id(span) not in running)

    def place(self, key: bytes) -> Placement:
        """Give a prompt a sequence, sharing the longest prefix there is; `key` is its `prefix_key`.

        The caller makes room with `evict` first: there must be a free id.
        """
        best, n_shared = self._longest(key) if self._sharing else (None, 0)
        if best is not None and not best.running and n_shared == best.n_tokens:
            self._touch(best)
            best.running = True
            return Placement(best.seq_id, n_shared)
        resident = Resident(self._free.pop(), running=True, used=0)
        self._touch(resident)
        self._residents[resident.seq_id] = resident
        if best is None or n_shared == 0:
            return Placement(resident.seq_id)
        self._share(best, resident, n_shared)
        return Placement(resident.seq_id, n_shared, best.seq_id)

    def extend(self, seq_id: int, tokens: Iterable[int]) -> None:
        """Note that `tokens` were fed to a sequence."""
        resident = self._residents[seq_id]
        data = array("i", tokens).tobytes()
        if not data:
            return
        resident.tokens += data
        n = len(data) // _WORD
        if resident.spans and resident.spans[-1].n_holders == 1:
            resident.spans[-1].n += n
        else:
            resident.spans.append(Span(n))

    def rewind(self, seq_id: int) -> None:
        """Note that a running sequence's cells were dropped; its id stays its own."""
        resident = self._residents[seq_id]
        self._release(resident)
        resident.tokens.clear()

    def rest(self, seq_id: int) -> bool:
        """Keep a sequence that no row runs any more, for prompts that begin like it.

        False when it is of no use: then it is forgotten, and the caller removes its cells.
        """
        resident = self._residents[seq_id]
        resident.running = False
        self._touch(resident)
        if self._sharing and resident.spans:
            return True
        self.drop(seq_id)
        return False

    def drop(self, seq_id: int) -> None:
        """Forget a sequence, whose cells the caller removes; its id is free again."""
        self._release(self._residents.pop(seq_id))
        self._free.append(seq_id)

    def n_shared(self, key: bytes) -> int:
        """Return how many first tokens of a prompt `place` would find."""
        return self._longest(key)[1] if self._sharing else 0

    def n_common(self, left: bytes, right: bytes) -> int:
        """Return how many first tokens two prompts could share."""
        return _common(left, right) if self._sharing else 0

    def evict(self, n_cells: int, *, n_ids: int = 0) -> list[int]:
        """Drop idle sequences, the longest unused first, until `n_cells` and `n_ids` ids are freed.

        Returns the sequences that the caller is to remove; fewer cells may be freed than asked.
        """
        dropped = []
        freed = 0
        for resident in sorted(self._residents.values(), key=lambda one: one.used):
            if freed >= n_cells and len(self._free) >= n_ids:
                break
            if not resident.running:
                freed += sum(span.n for span in resident.spans if span.n_holders == 1)
                self.drop(resident.seq_id)
                dropped.append(resident.seq_id)
        return dropped

    def faults(self) -> list[str]:
        """Return what does not add up among ids, spans and their holders: nothing, if all is well."""
        found = []
        holders: dict[int, int] = {}
        for resident in self._residents.values():
            if sum(span.n for span in resident.spans) != resident.n_tokens:
                found.append(f"sequence {resident.seq_id}: its spans are not its tokens")
            for span in resident.spans:
                holders[id(span)] = holders.get(id(span), 0) + 1
        found += [
            f"{span}: held by {holders[id(span)]}"
            for span in self._spans()
            if span.n < 1 or holders[id(span)] != span.n_holders
        ]
        if set(self._free) & set(self._residents):
            found.append("an id is both free and in use")
        return found

    def _spans(self) -> Iterable[Span]:
        """Every span once."""
        return {id(span): span for one in self._residents.values() for span in one.spans}.values()

    def _touch(self, resident: Resident) -> None:
        self._clock += 1
        resident.used = self._clock

    def _longest(self, wanted: bytes) -> tuple[Resident | None, int]:
        """Return the resident with the longest common prefix; of equals an idle one, then the newest."""
        best: Resident | None = None
        best_rank = (0, False, 0)
        for resident in self._residents.values():
            n = _common(wanted, resident.tokens)
            rank = (n, not resident.running, resident.used)
            if n > 0 and rank > best_rank:
                best, best_rank = resident, rank
        return best, best_rank[0]

    def _share(self, source: Resident, target: Resident, n_tokens: int) -> None:
        """Let `target` hold the first `n_tokens` of `source`, which is split where they end."""
        left = n_tokens
        for span in list(source.spans):
            if left == 0:
                break
            if span.n > left:
                self._split(span, left)
            span.n_holders += 1
            target.spans.append(span)
            left -= span.n
        target.tokens += source.tokens[: n_tokens * _WORD]

    def _split(self, span: Span, n: int) -> None:
        """Cut a span in two, for all who hold it."""
        rest = Span(span.n - n, span.n_holders)
        span.n = n
        for resident in self._residents.values():
            for i, held in enumerate(resident.spans):
                if held is span:
                    resident.spans.insert(i + 1, rest)
                    break

    def _release(self, resident: Resident) -> None:
        for span in resident.spans:
            span.n_holders -= 1
        resident.spans.clear()


def _common(wanted: bytes, have: bytes | bytearray) -> int:
    """Return how many first tokens two sequences have in common."""
    n = min(len(wanted), len(have)) // _WORD
    if n == 0 or wanted[:_WORD] != have[:_WORD]:
        return 0
    low, high = 1, n
    view = memoryview(have)
    target = memoryview(wanted)
    while low < high:
        middle = (low + high + 1) // 2
        if target[low * _WORD : middle * _WORD] == view[low * _WORD : middle * _WORD]:
            low = middle
        else:
            high = middle - 1
    view.release()
    return low
