"""What was measured, and what follows from it: medians, ratios, shares of the ceilings, which goals are reached."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from load import Seen
from server import LLAMA, PATCHED, SHIMMY
from work import Bed, Metric, Work

Figures = dict[str, float]
BATCHED, SINGLE = "llama-batched-bench", "llama-bench"
KVU, RELEASED = " -kvu", " as released"
CEILINGS = tuple(
    name
    for ending in ("", RELEASED)
    for name in (BATCHED + ending, BATCHED + ending + KVU, SINGLE + ending)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One measurement of a work on a side."""

    bed: Bed
    work: Work
    side: str
    figures: Figures
    seen: Seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Beyond:
    """Why a goal cannot be reached here: a ceiling that is lower, as a multiple of llama-server's rate."""

    ceiling: str
    ratio: float


@dataclass(slots=True, kw_only=True)
class Report:
    """All runs of a command. `sides`: the servers, in the order of their turns; `sources`: where those of llama.cpp are from.

    `ceilings`: rates of llama.cpp's programs by (bed, number of sequences, program). `n_threads`: llama-bench's.
    `problems` are things that a reader must know of; `failed`: something was not measured at all.
    """

    command: str
    rounds: int
    sides: tuple[str, ...]
    sources: dict[str, str]
    machine: dict[str, str]
    n_threads: int
    runs: list[Run] = field(default_factory=list)
    ceilings: dict[tuple[str, int, str], list[float]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    seconds: float = 0.0
    failed: bool = False

    @property
    def references(self) -> tuple[str, ...]:
        """The sides that shimmy is held against."""
        return tuple(side for side in self.sides if side != SHIMMY)

    def ended(self) -> None:
        """Note how long it took."""
        self.seconds = (datetime.now(UTC) - self.began).total_seconds()

    def as_json(self) -> dict[str, Any]:
        """Return everything, every single run too."""
        return {
            "command": self.command,
            "date": self.began.isoformat(timespec="seconds"),
            "seconds": round(self.seconds, 1),
            "rounds": self.rounds,
            "machine": self.machine,
            "references": self.sources,
            "problems": self.problems,
            "ceilings": [
                {"model": bed, "streams": n, "program": program, "tokens_per_second": rates}
                for (bed, n, program), rates in self.ceilings.items()
            ],
            "works": [
                {
                    "name": work.name,
                    "model": bed.model,
                    "metrics": {m.name: self._metric_json(bed, work, m) for m in work.metrics},
                    "runs": [
                        {"side": run.side} | run.seen for run in self.runs if run.work is work
                    ],
                }
                for bed, work in self.works()
            ],
        }

    def works(self) -> list[tuple[Bed, Work]]:
        """Return what was measured, in order."""
        return list({run.work.name: (run.bed, run.work) for run in self.runs}.values())

    def values(self, work: Work, side: str, metric: Metric) -> list[float]:
        """Return a figure of each round."""
        return [
            run.figures[metric.name]
            for run in self.runs
            if run.work.name == work.name and run.side == side
        ]

    def seen(self, work: Work, side: str) -> list[Seen]:
        """Return all that the client saw in each round."""
        return [run.seen for run in self.runs if run.work.name == work.name and run.side == side]

    def rates(self, bed: Bed, work: Work, program: str) -> list[float]:
        """Return what a program of llama.cpp reached with as many sequences in each round."""
        return self.ceilings.get((bed.name, work.ceiling or 0, program), [])

    def ratio(self, work: Work, metric: Metric, reference: str = LLAMA) -> float | None:
        """Return shimmy's median by a reference's."""
        medians = self._medians(work, metric, reference)
        return medians and medians[1] / medians[0]

    def reached(self, work: Work, metric: Metric) -> bool | None:
        """Whether a goal is reached: against llama-server as it is released, nothing else."""
        medians = self._medians(work, metric, LLAMA)
        return medians and metric.reached(*medians)

    def beyond(self, bed: Bed, work: Work, metric: Metric) -> Beyond | None:
        """Return what keeps a goal that is not reached from being reached by anything; None if nothing measured does.

        A rate with prompts in it cannot be above that of the decode alone: the highest one that was measured counts.
        One that a server was above is no ceiling: then something disturbed it.
        """
        medians = self._medians(work, metric, LLAMA)
        rates = [(self.rates(bed, work, program), program) for program in CEILINGS]
        found = [(statistics.median(values), program) for values, program in rates if values]
        if not (medians and found and metric.higher and metric.goal) or metric.apart:
            return None
        if metric.unit != work.decoding.unit or self.reached(work, metric):
            return None
        highest, program = max(found)
        if any(
            (share := self.share(bed, work, side, program)) and share > 1 for side in self.sides
        ):
            return None
        ratio = highest / medians[0]
        return Beyond(ceiling=program, ratio=ratio) if ratio < metric.goal else None

    def held(self, bed: Bed, work: Work, program: str) -> str:
        """Return which build of a program a goal is held against: the release, if it was measured."""
        return program + RELEASED if self.rates(bed, work, program + RELEASED) else program

    def share(self, bed: Bed, work: Work, side: str, program: str) -> float | None:
        """Return a side's rate as a share of that of a program of llama.cpp."""
        rates, values = self.rates(bed, work, program), self.values(work, side, work.decoding)
        return statistics.median(values) / statistics.median(rates) if rates and values else None

    def _medians(self, work: Work, metric: Metric, reference: str) -> tuple[float, float] | None:
        theirs, ours = (self.values(work, side, metric) for side in (reference, SHIMMY))
        if not theirs or not ours or not statistics.median(theirs):
            return None
        return statistics.median(theirs), statistics.median(ours)

    def _metric_json(self, bed: Bed, work: Work, metric: Metric) -> dict[str, Any]:
        beyond = self.beyond(bed, work, metric)
        return {
            "unit": metric.unit,
            **{side: self.values(work, side, metric) for side in self.sides},
            "ratio": self.ratio(work, metric),
            "ratio_patched": self.ratio(work, metric, PATCHED),
            "goal": metric.goal,
            "reached": self.reached(work, metric),
            "ceiling_ratio": beyond and beyond.ratio,
        }
