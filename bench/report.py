"""What was measured, as text, Markdown and JSON. Ratios are of medians; nothing is left out for being bad."""

from __future__ import annotations

import platform
import statistics
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from load import Seen
from reference import ROOT
from server import LLAMA, SHIMMY, SIDES
from work import Bed, Metric, Work

Figures = dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One measurement of a work on a side."""

    bed: Bed
    work: Work
    side: str
    figures: Figures
    seen: Seen


@dataclass(slots=True, kw_only=True)
class Report:
    """All runs of a command. `ceilings`: llama-batched-bench's rates by (bed, number of sequences, unified cells).

    `problems` are things that a reader must know of; `failed`: something was not measured at all.
    """

    command: str
    rounds: int
    source: str
    machine: dict[str, str]
    runs: list[Run] = field(default_factory=list)
    ceilings: dict[tuple[str, int, bool], list[float]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    seconds: float = 0.0
    failed: bool = False

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
            "reference": self.source,
            "problems": self.problems,
            "ceilings": [
                {"model": bed, "streams": n, "unified": unified, "tokens_per_second": rates}
                for (bed, n, unified), rates in self.ceilings.items()
            ],
            "works": [
                {
                    "name": work.name,
                    "model": bed.model,
                    "metrics": {m.name: self._metric_json(work, m) for m in work.metrics},
                    "runs": [
                        {"side": run.side} | run.seen for run in self.runs if run.work is work
                    ],
                }
                for bed, work in self._works()
            ],
        }

    def as_text(self) -> str:
        """Return the tables and what is slow."""
        return "\n".join([*self._tables(), *self._slow(), *self._problems()])

    def as_markdown(self) -> str:
        """Return the document."""
        lines = [
            "# shimmy against llama-server",
            "",
            f"Made by `{self.command}` on {self.began:%Y-%m-%d, %H:%M} UTC in {self.seconds / 60:.0f} minutes; do not edit.",
            "",
            "| | |",
            "| --- | --- |",
            *(f"| {name} | {value} |" for name, value in self.machine.items()),
            f"| reference | {self.source} |",
            "",
            f"Both servers run at once and are measured in turns, {self.rounds} rounds; a figure is the median of the rounds with the",
            "lowest and highest behind it, a ratio is shimmy's median by llama-server's. The client (`bench/load.c`) reads the stream over",
            "HTTP on the same cores. All requests have `ignore_eos`, 128 tokens unless said; both sides get the same bodies and the same",
            "`-np` and `-c`, llama-server `--kv-unified` (shimmy's cells are always shared). No prompt is repeated from round to round.",
            "The ceiling is what `llama-batched-bench` decodes in the same rounds: no sampling, no text, no network, no prompt (a single",
            "stream is held against it from its first token on). With `-kvu` its",
            "sequences share their cells, as in both servers here: then each token looks at the cells of all, and that costs.",
            "Weights are random (`bench/models.py`): that does not change the speed of a dense model, but what is said has no meaning.",
            "",
            *self._tables(),
            *self._slow(),
            *self._problems(),
        ]
        return "\n".join(lines).rstrip() + "\n"

    def _tables(self) -> Iterator[str]:
        done: list[str] = []
        for bed, _ in self._works():
            if bed.name in done:
                continue
            done.append(bed.name)
            flags = f"-np {bed.n_parallel} -c {bed.n_ctx}"
            yield from (f"## {bed.name}", "")
            model = f"`{bed.model}`, " if bed.model else ""
            yield from (f"{model}`{flags}`", "")
            yield f"| work | figure | {LLAMA} | {SHIMMY} | ratio | goal |"
            yield "| --- | --- | ---: | ---: | ---: | --- |"
            for work in [work for other, work in self._works() if other.name == bed.name]:
                yield from self._rows(work)
            yield ""
            yield from self._shares(bed)

    def _rows(self, work: Work) -> Iterator[str]:
        title = f"**{work.title}** (`{work.name}`)"
        for metric in work.metrics:
            cells = [_spread(self._values(work, side, metric)) for side in SIDES]
            ratio = self._ratio(work, metric)
            shown = "–" if ratio is None else f"{ratio:.2f} ×"
            yield f"| {title} | {metric.name}, {metric.unit} | {' | '.join(cells)} | {shown} | {self._goal(work, metric)} |"
            title = ""
        # tokens of requests that were cut off at the end of such a work are not known
        if not work.long and all(
            "cpu_seconds" in run.seen for run in self.runs if run.work is work
        ):
            cells = [_spread(self._cpu(work, side)) for side in SIDES]
            yield f"|  | CPU time per token, µs | {' | '.join(cells)} | | |"

    def _shares(self, bed: Bed) -> Iterator[str]:
        works = [work for other, work in self._works() if other.name == bed.name and work.ceiling]
        if not works:
            return
        yield f"| share of the ceiling | llama-batched-bench, tok/s | the same, `-kvu` | {LLAMA} | {SHIMMY} | goal |"
        yield "| --- | ---: | ---: | ---: | ---: | --- |"
        for work in works:
            shares = [self._share(work, bed, side) for side in SIDES]
            cells = ["–" if share is None else f"{100 * share:.0f} %" for share in shares]
            goal = "" if work.ceiling_goal is None else f"{100 * work.ceiling_goal:.0f} %: "
            if work.ceiling_goal is not None and shares[1] is not None:
                goal += "reached" if shares[1] >= work.ceiling_goal else "**not reached**"
            rates = [
                _spread(self.ceilings.get((bed.name, work.ceiling or 0, unified), []))
                for unified in (False, True)
            ]
            yield f"| `{work.name}` | {' | '.join(rates + cells)} | {goal} |"
        yield ""

    def _slow(self) -> Iterator[str]:
        """List every goal that is missed and every work that is slower than llama-server's."""
        found = []
        for bed, work in self._works():
            for metric in work.metrics:
                ratio = self._ratio(work, metric)
                if ratio is None:
                    continue
                slower = ratio < 1 if metric.higher else ratio > 1
                if self._reached(work, metric) is False:
                    found.append(
                        f"`{work.name}`, {metric.name}: {ratio:.2f} × llama-server's, the goal is {metric.limit()}"
                    )
                elif slower:
                    found.append(
                        f"`{work.name}`, {metric.name}: {ratio:.2f} × llama-server's: worse than it"
                    )
            share = self._share(work, bed, SHIMMY)
            if work.ceiling_goal is not None and share is not None and share < work.ceiling_goal:
                found.append(
                    f"`{work.name}`: {100 * share:.0f} % of llama-batched-bench's rate, the goal is {100 * work.ceiling_goal:.0f} %"
                )
        yield "## What is slow"
        yield ""
        if found:
            yield "Goals that were not reached, and figures that are worse than llama-server's:"
            yield ""
            yield from (f"- {line}" for line in found)
        else:
            yield "All goals were reached, and no figure is worse than llama-server's."
        yield ""

    def _problems(self) -> Iterator[str]:
        if self.problems:
            yield from ("## What went wrong while measuring", "")
            yield from (f"- {problem.splitlines()[0]}" for problem in self.problems)
            yield ""

    def _works(self) -> list[tuple[Bed, Work]]:
        return list({run.work.name: (run.bed, run.work) for run in self.runs}.values())

    def _values(self, work: Work, side: str, metric: Metric) -> list[float]:
        return [
            run.figures[metric.name]
            for run in self.runs
            if run.work.name == work.name and run.side == side
        ]

    def _cpu(self, work: Work, side: str) -> list[float]:
        runs = [run.seen for run in self.runs if run.work.name == work.name and run.side == side]
        return [1e6 * seen["cpu_seconds"] / seen["tokens"] for seen in runs if seen["tokens"]]

    def _medians(self, work: Work, metric: Metric) -> tuple[float, float] | None:
        llama, shimmy = (self._values(work, side, metric) for side in SIDES)
        if not llama or not shimmy or not statistics.median(llama):
            return None
        return statistics.median(llama), statistics.median(shimmy)

    def _ratio(self, work: Work, metric: Metric) -> float | None:
        medians = self._medians(work, metric)
        return medians and medians[1] / medians[0]

    def _reached(self, work: Work, metric: Metric) -> bool | None:
        medians = self._medians(work, metric)
        return medians and metric.reached(*medians)

    def _goal(self, work: Work, metric: Metric) -> str:
        reached = self._reached(work, metric)
        if reached is None:
            return metric.limit()
        return f"{metric.limit()}: {'reached' if reached else '**not reached**'}"

    def _share(self, work: Work, bed: Bed, side: str) -> float | None:
        rates = self.ceilings.get((bed.name, work.ceiling or 0, False))
        values = self._values(work, side, work.decoding)
        return statistics.median(values) / statistics.median(rates) if rates and values else None

    def _metric_json(self, work: Work, metric: Metric) -> dict[str, Any]:
        ratio = self._ratio(work, metric)
        sides = {side: self._values(work, side, metric) for side in SIDES}
        return {
            "unit": metric.unit,
            **sides,
            "ratio": ratio,
            "goal": metric.goal,
            "reached": self._reached(work, metric),
        }


def machine() -> dict[str, str]:
    """Return what the figures depend on, as rows."""
    load = " ".join(f"{value:.2f}" for value in psutil.getloadavg())
    return {
        "machine": f"{_cpu_name()}, {psutil.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "load before": load,
        "shimmy": _revision(),
    }


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    names = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next(
        (n.partition(":")[2].strip() for n in names if n.startswith("model name")),
        platform.processor() or platform.machine(),
    )


def _revision() -> str:
    from shimmy import __version__

    git = ["git", "-C", str(ROOT), "--no-optional-locks"]
    head = subprocess.run(
        [*git, "rev-parse", "--short", "HEAD"], check=False, capture_output=True, text=True
    )
    if head.returncode:
        return __version__
    changed = subprocess.run(
        [*git, "status", "--porcelain", "--", "shimmy", "native", "vendor"],
        check=False,
        capture_output=True,
        text=True,
    )
    return (
        f"{__version__}, {head.stdout.strip()}{' with changes' if changed.stdout.strip() else ''}"
    )


def _spread(values: Iterable[float]) -> str:
    found = sorted(values)
    if not found:
        return "–"
    middle = statistics.median(found)
    if len(found) == 1:
        return _number(middle)
    return f"{_number(middle)} ({_number(found[0])}–{_number(found[-1])})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
