"""How a step's batch is shared out among rows, so that no prompt holds up those that generate."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shimmy.worker.job import Job

BITE_SECONDS = 0.9
"""How long a step may take that feeds prompts while rows generate: their longest pause."""

MIN_BITE = 16
"""Tokens that prompts get in such a step however slow the model is."""

FIRST_BITE = 64
"""Tokens that they get while its speed is not known yet."""

TILE = 64
"""Rows of a step that llama.cpp's attention on the CPU computes side by side. Fewer cost it about twice as much each,
so that small bites would look dear, and a dear token would keep the bites small."""

SCORED_BITE = 32
"""Tokens of prompts that are scored in a step: each has logits of its own, a row of the vocabulary."""


class Portions:
    """Up to `n_batch` tokens for each step, of which prompts get `n_bite` while rows generate."""

    def __init__(self, *, n_batch: int, n_bite: int) -> None:
        """Both in tokens; the model's speed is learnt."""
        self._n_batch = n_batch
        self._n_bite = n_bite
        # Seconds that a prompt's token takes, a moving mean.
        self._token_seconds: float | None = None

    def observe(self, bites: list[tuple[int, int]], seconds: float) -> None:
        """Learn the model's speed from how long a step with these bites took."""
        n_tokens = sum(n for _, n in bites if n > 1)
        if n_tokens < MIN_BITE:
            return
        seen = seconds / n_tokens
        known = self._token_seconds
        self._token_seconds = seen if known is None else 0.7 * known + 0.3 * seen

    def share(self, rows: Iterable[Job], *, busy: bool = False) -> list[tuple[int, int]]:
        """Return (slot, tokens to feed) of each row that takes part in the next step.

        `busy`: others generate too, but not in this step.
        """
        bites: list[tuple[int, int]] = []
        prompts: list[Job] = []
        for job in rows:
            if job.paused or job.n_fetch or job.slot is None:
                continue
            if job.generating:
                bites.append((job.slot, 1))
            else:
                prompts.append(job)
        if not prompts:
            return bites
        prompts.sort(key=_n_waiting)
        n_scored = SCORED_BITE
        budget = self._n_batch - len(bites)
        if bites or busy:
            budget = min(budget, self._limit(len(bites)))
        for i, job in enumerate(prompts):
            if job.at_medium:
                # whole, and not a part of the batch; what comes behind it waits for the next step
                if budget > 0 and job.slot is not None:
                    bites.append((job.slot, job.n_run))
                    budget -= job.n_run
                continue
            # what a short prompt leaves of its share goes to the longer ones behind it
            share = max(budget // (len(prompts) - i), 1)
            n_tokens = min(job.n_run, share, budget)
            if job.n_past < job.n_mark:
                n_tokens = min(n_tokens, job.n_mark - job.n_past)
            if job.scored:
                n_tokens = min(n_tokens, n_scored)
                n_scored -= n_tokens
            if n_tokens > 0 and job.slot is not None:
                bites.append((job.slot, n_tokens))
                budget -= n_tokens
        return bites

    def _limit(self, n_generating: int) -> int:
        """Prompt tokens for a step in which rows generate: they fill whole tiles, where half of one can be afforded."""
        affordable = FIRST_BITE
        if self._token_seconds is not None:
            affordable = int(BITE_SECONDS / max(self._token_seconds, 1e-9))
        n_tiles = (affordable + TILE // 2) // TILE
        if n_tiles:
            affordable = n_tiles * TILE - n_generating % TILE
        return min(max(affordable, MIN_BITE), self._n_bite)


def _n_waiting(job: Job) -> int:
    return job.n_waiting
