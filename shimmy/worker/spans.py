"""The cells of the cache as spans, each held by the sequences that share it, and how many are in use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shimmy.worker.resident import WORD, Span

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shimmy.worker.resident import Resident


class Spans:
    """Counts the cells of `residents`, by sequence id: a view of those that its owner has."""

    def __init__(self, residents: Mapping[int, Resident]) -> None:
        """None of the residents has a span yet."""
        self._residents = residents
        self.n_cells = 0
        """Cells in use, each counted once."""
        self.n_idle_cells = 0
        """Those of them that no running sequence holds."""

    def grow(self, resident: Resident, n: int) -> None:
        """Give a running sequence `n` cells more, which no other holds."""
        self.n_cells += n
        if resident.spans and resident.spans[-1].n_holders == 1:
            resident.spans[-1].n += n
        else:
            resident.spans.append(Span(n))

    def run(self, resident: Resident) -> None:
        """Let an idle sequence run."""
        resident.running = True
        for span in resident.spans:
            if span.n_running == 0:
                self.n_idle_cells -= span.n
            span.n_running += 1

    def rest(self, resident: Resident) -> None:
        """Let a running sequence be idle."""
        resident.running = False
        for span in resident.spans:
            span.n_running -= 1
            if span.n_running == 0:
                self.n_idle_cells += span.n

    def share(self, source: Resident, target: Resident, n_tokens: int) -> None:
        """Let `target`, which runs and holds nothing, hold the first `n_tokens` of `source`."""
        self.tail(source, n_tokens)
        left = n_tokens
        for span in source.spans:
            if left == 0:
                break
            if span.n_running == 0:
                self.n_idle_cells -= span.n
            span.n_holders += 1
            span.n_running += 1
            target.spans.append(span)
            left -= span.n
        target.tokens += source.tokens[: n_tokens * WORD]

    def cut(self, resident: Resident, n_tokens: int) -> None:
        """Let a sequence hold its first `n_tokens` only."""
        tail = self.tail(resident, n_tokens)
        del resident.spans[len(resident.spans) - len(tail) :]
        for span in tail:
            self._release(span, running=resident.running)
        del resident.tokens[n_tokens * WORD :]
        resident.n_hidden = 0

    def leave(self, resident: Resident) -> None:
        """Count a sequence no more, which keeps its tokens for whoever reads them."""
        for span in resident.spans:
            self._release(span, running=resident.running)

    def tail(self, resident: Resident, n_tokens: int) -> list[Span]:
        """Return the spans behind the first `n_tokens`; one that reaches over their end is split."""
        left = n_tokens
        for i, span in enumerate(resident.spans):
            if left < span.n:
                if left > 0:
                    self._split(span, left)
                    i += 1
                return resident.spans[i:]
            left -= span.n
        return []

    def faults(self) -> list[str]:
        """Return what does not add up among spans and their holders: nothing, if all is well."""
        found = []
        holders: dict[int, list[Resident]] = {}
        spans: dict[int, Span] = {}
        for resident in self._residents.values():
            if sum(span.n for span in resident.spans) != resident.n_tokens + resident.n_hidden:
                found.append(f"sequence {resident.seq_id}: its spans are not its tokens")
            for span in resident.spans:
                spans[id(span)] = span
                holders.setdefault(id(span), []).append(resident)
        for key, span in spans.items():
            n_running = sum(one.running for one in holders[key])
            if span.n < 1 or (len(holders[key]), n_running) != (span.n_holders, span.n_running):
                found.append(f"{span}: held by {[one.seq_id for one in holders[key]]}")
        if sum(span.n for span in spans.values()) != self.n_cells:
            found.append(f"{self.n_cells} cells were counted")
        if sum(span.n for span in spans.values() if not span.n_running) != self.n_idle_cells:
            found.append(f"{self.n_idle_cells} idle cells were counted")
        return found

    def _split(self, span: Span, n: int) -> None:
        """Cut a span in two, for all who hold it."""
        rest = Span(span.n - n, span.n_holders, span.n_running)
        span.n = n
        for resident in self._residents.values():
            for i, held in enumerate(resident.spans):
                if held is span:
                    resident.spans.insert(i + 1, rest)
                    break

    def _release(self, span: Span, *, running: bool) -> None:
        """Count one holder less."""
        was_idle = span.n_running == 0
        span.n_holders -= 1
        span.n_running -= running
        if span.n_holders == 0:
            self.n_cells -= span.n
        is_idle = span.n_holders > 0 and span.n_running == 0
        self.n_idle_cells += (is_idle - was_idle) * span.n
