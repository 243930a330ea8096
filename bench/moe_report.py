"""What bench/moe has found, as text, JSON and the part of docs/moe.md between its marks."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llama_bench import Rates
from streamed import Timed

BEGIN, END = "<!-- bench/moe -->", "<!-- end of bench/moe -->"
GOAL = 0.97
_MIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One placement of one mixture: the experts of `n_cpu_moe` layers in host memory."""

    model: str
    n_layer: int
    n_cpu_moe: int
    placement: list[dict[str, Any]]
    driver_mib: float | None
    timed: list[Timed]
    bench: Rates

    @property
    def ggml_mib(self) -> float:
        """What llama.cpp's books say lies on GPUs."""
        parts = [part for part in self.placement if part["device"] != "CPU"]
        return float(sum(part["weights"] + part["kv"] + part["compute"] for part in parts)) / _MIB

    @property
    def rate(self) -> float:
        """The median of the tokens per second."""
        return statistics.median(one.rate for one in self.timed)

    @property
    def ratio(self) -> float:
        """That by llama-bench's."""
        return self.rate / statistics.median(self.bench.generation)


@dataclass(slots=True, kw_only=True)
class Run:
    """All of it."""

    command: str
    machine: dict[str, str]
    devices: list[str]
    n_prompt: int
    n_tokens: int
    n_runs: int
    levels: list[Level] = field(default_factory=list)
    date: str = field(default_factory=lambda: time.strftime("%Y-%m-%d"))

    def as_json(self) -> dict[str, Any]:
        """Return every single figure."""
        return dataclasses.asdict(self)

    def lines(self) -> Iterator[str]:
        """Yield the tables as Markdown."""
        yield f"Measured on {self.date} with `{self.command}`."
        yield ""
        yield "| | |"
        yield "| --- | --- |"
        yield f"| GPU | {'; '.join(self.devices)} |"
        yield from (f"| {name} | {value} |" for name, value in self.machine.items())
        yield ""
        yield f"Prompts of {self.n_prompt} tokens, each seen for the first time, and {self.n_tokens} generated behind them; {self.n_runs} runs"
        yield "after two to warm up: the median, with the lowest and highest behind it. The time to the first token is measured at the client."
        yield "llama-bench runs at the same flags on the same libraries, in turns with the server. Weights are random (`bench/mixtures.py`)."
        yield ""
        for model in dict.fromkeys(level.model for level in self.levels):
            yield from self._table(model)

    def _table(self, model: str) -> Iterator[str]:
        levels = [level for level in self.levels if level.model == model]
        yield f"**{model}**"
        yield ""
        yield "| experts in host memory | GPU memory, driver, MiB | ggml, MiB | first token, ms | prompt, tok/s | generation, tok/s | llama-bench prompt | generation | ratio |"
        yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
        yield from (_row(level) for level in levels)
        yield ""
        yield _price(levels)
        low = min(level.ratio for level in levels)
        reached = "reached" if low >= GOAL else "**not reached**"
        yield f"The lowest ratio to llama-bench is {low:.2f}; the goal is {GOAL}: {reached}."
        yield ""


def _row(level: Level) -> str:
    where = f"{level.n_cpu_moe} of {level.n_layer} layers" if level.n_cpu_moe else "none"
    driver = "not told" if level.driver_mib is None else f"{level.driver_mib:,.0f}"
    cells = [
        spread([one.first_ms for one in level.timed]),
        spread([one.prompt_rate for one in level.timed]),
        spread([one.rate for one in level.timed]),
        spread(level.bench.prompt),
        spread(level.bench.generation),
    ]
    return (
        f"| {where} | {driver} | {level.ggml_mib:,.0f} | {' | '.join(cells)} | {level.ratio:.2f} |"
    )


def _price(levels: list[Level]) -> str:
    """Say what the experts of all layers in host memory save and cost."""
    first, last = levels[0], levels[-1]
    if not first.ggml_mib:
        return "Without a GPU there is nothing to save."
    saved = [f"{1 - last.ggml_mib / first.ggml_mib:.1%} less GPU memory by ggml's books"]
    if first.driver_mib and last.driver_mib is not None:
        saved.append(f"{1 - last.driver_mib / first.driver_mib:.1%} less by the driver")
    return f"All experts in host memory: {', '.join(saved)}, at {first.rate / last.rate:.2f} × the time for each token."


def spread(values: list[float]) -> str:
    """Return the median with the lowest and the highest."""
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{_number(middle)} ({_number(low)}–{_number(high)})"


def progress(level: Level) -> str:
    """Say what one placement gave."""
    return (
        f"{level.model}, {level.n_cpu_moe} of {level.n_layer}: {level.ggml_mib:,.0f} MiB on GPUs, "
        f"{_number(level.rate)} tok/s, llama-bench {_number(statistics.median(level.bench.generation))}"
    )


def write(document: Path, run: Run) -> None:
    """Put the tables between the document's marks."""
    text = document.read_text()
    before, _, rest = text.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise RuntimeError(f"{document} has no {BEGIN} and {END}")
    document.write_text(f"{before}{BEGIN}\n\n" + "\n".join(run.lines()) + f"\n{END}{after}")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
