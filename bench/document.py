"""A report as text and Markdown. Nothing is left out for being bad; every figure in it comes from the same run."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from reference import VENDOR
from report import BATCHED, KVU, RELEASED, SINGLE, Report
from server import LLAMA, PATCHED, SHIMMY
from work import Bed, Metric, Work


@dataclass(frozen=True, slots=True)
class Document:
    """The words and tables of a report."""

    report: Report

    def as_text(self) -> str:
        """Return the tables and what is slow."""
        return "\n".join([*self._tables(), *self._slow(), *self._problems()])

    def as_markdown(self) -> str:
        """Return the document."""
        report = self.report
        lines = [
            "# shimmy against llama-server",
            "",
            f"Made by `{report.command}` on {report.began:%Y-%m-%d, %H:%M} UTC in {report.seconds / 60:.0f} minutes; do not edit.",
            "",
            "| | |",
            "| --- | --- |",
            *(f"| {name} | {value} |" for name, value in report.machine.items()),
            *(f"| {side} | {source} |" for side, source in report.sources.items()),
            "",
            *self._sides(),
            "",
            f"All servers run at once and are measured in turns, {report.rounds} rounds; a figure is the median of the rounds with the",
            "lowest and highest behind it, a ratio is shimmy's median by that server's. The client (`bench/load.c`) reads the stream over",
            "HTTP on the same cores. All requests have `ignore_eos`, 128 tokens unless said; all sides get the same bodies and the same",
            "`-np` and `-c`, llama-server `--kv-unified` (shimmy's cells are always shared). No prompt is repeated from round to round.",
            *self._ceilings(),
            "Weights are random (`bench/models.py`): that does not change the speed of a dense model, but what is said has no meaning.",
            "",
            *self._tables(),
            *self._slow(),
            *self._problems(),
        ]
        return "\n".join(lines).rstrip() + "\n"

    def _sides(self) -> Iterator[str]:
        names = ", ".join(f"`{path.stem}`" for path in sorted((VENDOR / "patches").glob("*.patch")))
        if LLAMA in self.report.sides:
            yield "`llama-server` is the one that users have: of the pinned llama.cpp as it was released. **The goals are held against it.**"
        else:
            yield "llama-server as it was released was not measured in this run; the goals are for that one, so none is held here."
        yield f"shimmy builds the same llama.cpp with patches of its own ({names}). Some"
        yield "change speed: with `cpu-attention-shared-cells` attention on a CPU passes quickly over cells of other sequences, with"
        yield "`logits-in-place` a step's logits are not copied, with `chat-render-once` a chat's template is rendered once or twice instead of"
        yield "three times, with `jinja-copies` that copies no tables and fewer variables, with `cpu-repack-q8_0` weights in Q8_0 are laid out for"
        yield "AVX512-VNNI where the CPU has it, and with `batch-coupled-sequences` a step does not look at all pairs of 256 sequences. The rest"
        yield "repair errors, or the build."
        if PATCHED in self.report.sides:
            yield "`patched llama-server` is llama-server with the same patches: the ratio to it says what shimmy adds around the same library,"
            yield "the ratio to `llama-server` what one gets who changes from that to shimmy; both are shown."

    def _ceilings(self) -> Iterator[str]:
        yield "The ceilings are llama.cpp's own programs, run in the same rounds: no sampling, no text, no network, no prompt (a single stream"
        yield "is held against them from its first token on). They have the same patches, or are `as released`: then goals are held against those."
        yield "`llama-batched-bench` decodes as many sequences as the work has streams; with `-kvu` they share their cells, as in all servers"
        yield "here: then each token looks at the cells of all, and that costs."
        if any(program.startswith(SINGLE) for _, _, program in self.report.ceilings):
            yield f"`llama-bench` decodes 128 random tokens of one sequence (`-p 0 -n 128 -t {self.report.n_threads} -fa 1`, flash attention as the servers'"
            yield "`auto` has it on a CPU), so at depths of 0 to 128; a stream has its prompt before it, of as many tokens as is said below its table."
        yield 'A goal is "above the ceiling" where it asks for more than the highest of these rates.'

    def _tables(self) -> Iterator[str]:
        done: list[str] = []
        report = self.report
        for bed, _ in report.works():
            if bed.name in done:
                continue
            done.append(bed.name)
            flags = f"-np {bed.n_parallel} -c {bed.n_ctx}"
            yield from (f"## {bed.name}", "")
            model = f"`{bed.model}`, " if bed.model else ""
            yield from (f"{model}`{flags}`", "")
            ratios = [f"× {side}" for side in report.references]
            yield f"| work | figure | {' | '.join([*report.sides, *ratios])} | goal |"
            yield f"| --- | --- | {'---: | ' * (len(report.sides) + len(ratios))}--- |"
            for work in [work for other, work in report.works() if other.name == bed.name]:
                yield from self._rows(bed, work)
            yield ""
            yield from self._shares(bed)

    def _rows(self, bed: Bed, work: Work) -> Iterator[str]:
        report = self.report
        title = f"**{work.title}** (`{work.name}`)"
        for metric in work.metrics:
            cells = [_spread(report.values(work, side, metric)) for side in report.sides]
            for side in report.references:
                ratio = report.ratio(work, metric, side)
                cells.append("–" if ratio is None else f"{ratio:.2f} ×")
            yield f"| {title} | {metric.name}, {metric.unit} | {' | '.join(cells)} | {self._goal(bed, work, metric)} |"
            title = ""
        # tokens of requests that were cut off at the end of such a work are not known
        if not work.long and all(
            "cpu_seconds" in seen for side in report.sides for seen in report.seen(work, side)
        ):
            cells = [_spread(self._cpu(work, side)) for side in report.sides]
            cells += [""] * len(report.references)
            yield f"|  | CPU time per token, µs | {' | '.join(cells)} | |"

    def _shares(self, bed: Bed) -> Iterator[str]:
        report = self.report
        works = [work for other, work in report.works() if other.name == bed.name and work.ceiling]
        if not works:
            return
        yield f"| share of | its rate, tok/s | the same, `-kvu` | {' | '.join(report.sides)} | goal |"
        yield f"| --- | ---: | ---: | {'---: | ' * len(report.sides)}--- |"
        for work in works:
            for program, goal in ((BATCHED, work.ceiling_goal), (SINGLE, work.single_goal)):
                for name in (program, program + RELEASED):
                    if program == name == BATCHED or report.rates(bed, work, name):
                        held = name == report.held(bed, work, program)
                        yield self._share(bed, work, name, goal if held else None)
        yield ""
        for work in works:
            seen = report.seen(work, SHIMMY)
            prompts = [one["prompt_tokens"] / one["ok"] for one in seen if one["ok"]]
            if report.rates(bed, work, SINGLE) and prompts:
                tokens = f"{statistics.median(prompts):.0f} tokens"
                yield f"The prompts of `{work.name}` have {tokens}: its decode is at depths from there on, llama-bench's from 0."
                yield ""

    def _share(self, bed: Bed, work: Work, program: str, goal: float | None) -> str:
        report = self.report
        rates = [report.rates(bed, work, program)]
        rates.append(report.rates(bed, work, program + KVU))
        shares = [report.share(bed, work, side, program) for side in report.sides]
        cells = [_spread(values) for values in rates]
        cells += ["–" if share is None else f"{100 * share:.0f} %" for share in shares]
        ours = report.share(bed, work, SHIMMY, program)
        held = "" if goal is None else f"{100 * goal:.0f} %: "
        if goal is not None:
            reached = "reached" if ours is None or ours >= goal else "**not reached**"
            held += "not measured" if ours is None else reached
        return f"| {program}, `{work.name}` | {' | '.join(cells)} | {held} |"

    def _slow(self) -> Iterator[str]:
        """List every goal that is not known to be reached and every figure that is worse than a llama-server's."""
        found = [line for bed, work in self.report.works() for line in self._slow_of(bed, work)]
        yield "## What is slow"
        yield ""
        if found:
            yield "Goals that were not reached, and figures that are worse than a llama-server's:"
            yield ""
            yield from (f"- {line}" for line in found)
        elif not self.report.runs:
            yield "Nothing was measured."
        else:
            yield "All goals were reached, and no figure is worse than a llama-server's."
        yield ""

    def _slow_of(self, bed: Bed, work: Work) -> Iterator[str]:
        report = self.report
        for metric in work.metrics:
            ratios = {side: report.ratio(work, metric, side) for side in report.references}
            said = []
            if metric.goal is not None and not report.reached(work, metric):
                measured = report.ratio(work, metric) is not None
                held = self._beyond(bed, work, metric) if measured else " and was not measured"
                said.append(f"the goal is {metric.limit()}{held}")
            worse = [
                side
                for side, ratio in ratios.items()
                if ratio is not None and (ratio < 1 if metric.higher else ratio > 1)
            ]
            if worse:
                said.append(f"worse than {' and '.join(worse)}")
            if said:
                shown = ", ".join(f"{r:.2f} × {side}'s" for side, r in ratios.items() if r)
                shown = f"{shown}: " if shown else ""
                yield f"`{work.name}`, {metric.name}: {shown}{'; '.join(said)}"
        for program, goal in ((BATCHED, work.ceiling_goal), (SINGLE, work.single_goal)):
            held = report.held(bed, work, program)
            share = report.share(bed, work, SHIMMY, held)
            if goal is not None and (share is None or share < goal):
                shown = "an unknown share" if share is None else f"{100 * share:.0f} %"
                yield f"`{work.name}`: {shown} of {held}'s rate, the goal is {100 * goal:.0f} %"

    def _problems(self) -> Iterator[str]:
        if self.report.problems:
            yield from ("## What went wrong while measuring", "")
            yield from (f"- {problem.splitlines()[0]}" for problem in self.report.problems)
            yield ""

    def _goal(self, bed: Bed, work: Work, metric: Metric) -> str:
        if metric.goal is None:
            return ""
        reached = self.report.reached(work, metric)
        if reached is None:
            return f"{metric.limit()}: not measured"
        if reached:
            return f"{metric.limit()}: reached"
        return f"{metric.limit()}: **not reached**{self._beyond(bed, work, metric)}"

    def _beyond(self, bed: Bed, work: Work, metric: Metric) -> str:
        beyond = self.report.beyond(bed, work, metric)
        if beyond is None:
            return ""
        return f" (above the ceiling: {beyond.ceiling} is {beyond.ratio:.2f} × {LLAMA})"

    def _cpu(self, work: Work, side: str) -> list[float]:
        runs = self.report.seen(work, side)
        return [1e6 * seen["cpu_seconds"] / seen["tokens"] for seen in runs if seen["tokens"]]


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
