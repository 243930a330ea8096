"""One bed measured in turns: in each round the ceilings, then each work on one server after the other, all of them running."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import load
import models
import quiet
import reference
from reference import Reference
from report import BATCHED, KVU, RELEASED, SINGLE, Figures, Report, Run
from server import SHIMMY, Server, start
from work import Bed, Work

# CPU time of the sides that wait, as a share of the time measured; more than this disturbs the other
IDLE_SHARE = 0.05
# a measurement during which others used more of the cores than this is done again, after waiting for them
_DISTURBED, _ATTEMPTS, _WAIT_S = 0.10, 2, 30.0
N_TOKENS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """What all beds are measured with. `programs` has the patched programs, `released` those of the release if it is
    measured, `servers` the build of each side that is llama-server's. `models` is where models lie that were made before.
    """

    client: Path
    programs: Reference
    released: Reference | None
    servers: dict[str, Reference]
    models: Path | None
    report: Report

    def measure(self, bed: Bed) -> None:
        """Measure the works of a bed in turns: of each round, each work on one side and then on the others."""
        if bed.model is None:
            self._starts(bed)
            return
        model = models.model(bed.model, self.models, self.programs)
        with ExitStack() as stack:
            sides = self.report.sides
            servers = [stack.enter_context(self._start(side, bed, model)) for side in sides]
            for server in servers:
                server.wait_ready()
                self._warm_up(bed, server)
            density = tokens_per_word(next(s for s in servers if s.name != SHIMMY))
            for i in range(self.report.rounds):
                self._ceilings(bed, i, model)
                for work in bed.works:
                    for server in servers:
                        others = [other for other in servers if other is not server]
                        self._once(bed, work, i, server, others, density)

    def _start(self, side: str, bed: Bed, model: Path | None) -> Server:
        return start(
            side,
            self.servers.get(side),
            model,
            n_parallel=bed.n_parallel,
            n_ctx=bed.n_ctx,
            log=reference.BUILD / f"{side.replace(' ', '-')}.log",
            template=bed.template,
        )

    def _ceilings(self, bed: Bed, i: int, model: Path) -> None:
        """Run llama-batched-bench with as many sequences as the works have, and llama-bench for one."""
        for n_streams in sorted({work.ceiling for work in bed.works if work.ceiling}):
            for ending, built in (("", self.programs), (RELEASED, self.released)):
                if built is None:
                    continue
                batched = partial(
                    reference.ceiling,
                    built,
                    model,
                    n_ctx=bed.n_ctx,
                    n_tokens=N_TOKENS,
                    n_streams=n_streams,
                )
                name = BATCHED + ending
                self._ceiling(bed, i, n_streams, name, partial(batched, unified=False))
                if n_streams > 8:
                    self._ceiling(bed, i, n_streams, name + KVU, partial(batched, unified=True))
                if n_streams == 1:
                    single = partial(
                        reference.single,
                        built,
                        model,
                        n_tokens=N_TOKENS,
                        n_threads=self.report.n_threads,
                    )
                    self._ceiling(bed, i, n_streams, SINGLE + ending, single)

    def _ceiling(
        self, bed: Bed, i: int, n_streams: int, program: str, run: Callable[[], float]
    ) -> None:
        """Run a program once; again if others used the cores."""
        for _ in range(_ATTEMPTS):
            quiet.wait(_WAIT_S)
            watch = quiet.Watch()
            rate = run()
            others = watch.others(0.0)
            if others <= _DISTURBED:
                break
        else:
            where = f"{bed.name}, round {i + 1}, {program}, {n_streams}"
            self.report.problems.append(f"{where}: others used {others:.0%} of the cores")
        self.report.ceilings.setdefault((bed.name, n_streams, program), []).append(rate)
        say(i, bed.name, f"{program}, {n_streams}", f"{rate:.1f} tok/s")

    def _once(
        self, bed: Bed, work: Work, i: int, server: Server, others: Sequence[Server], density: float
    ) -> None:
        """Measure a work once on one side."""
        problems = self.report.problems
        for attempt in range(_ATTEMPTS):
            quiet.wait(_WAIT_S)
            # another text each time, the same one for all sides: none knows it from before
            tag = 1000 * (10 * i + attempt + 1)
            before, idle = server.cpu_seconds(), sum(other.cpu_seconds() for other in others)
            watch = quiet.Watch()
            seen = load.run(
                self.client,
                server.port,
                work.path,
                work.body(tag, density),
                n=work.n,
                c=work.c,
                first=tag,
                long=work.long_body(tag, density),
            )
            seen["cpu_seconds"] = server.cpu_seconds() - before
            idle = sum(other.cpu_seconds() for other in others) - idle
            seen["others_share"] = watch.others(seen["cpu_seconds"] + idle)
            disturbed = f"others used {seen['others_share']:.0%} of the cores"
            if seen["others_share"] <= _DISTURBED:
                break
            say(i, work.name, server.name, f"disturbed: {disturbed}")
        where = f"{work.name}, round {i + 1}, {server.name}"
        if seen["others_share"] > _DISTURBED:
            problems.append(f"{where}: {disturbed}")
        if idle > IDLE_SHARE * seen["seconds"]:
            problems.append(f"{where}: the servers that wait used {idle:.2f} s of CPU meanwhile")
        if not work.long and seen["tokens"] != seen["ok"] * work.max_tokens:
            wanted = seen["ok"] * work.max_tokens
            problems.append(f"{where}: {seen['tokens']} tokens came, not {wanted}")
        self._note(bed, work, i, server.name, seen)

    def _starts(self, bed: Bed) -> None:
        """Measure from the start of a process to the first token that a client sees."""
        # the first round fills the page cache and is not counted
        for i in range(-1, self.report.rounds):
            for side in self.report.sides:
                with self._start(side, bed, None) as server:
                    server.wait_ready()
                    for work in bed.works:
                        body = work.body(1) | {"model": "shimmy-demo" if side == SHIMMY else "m"}
                        began = time.monotonic()
                        seen = load.run(
                            self.client, server.port, work.path, body, n=work.n, c=work.c
                        )
                        seen["start_ms"] = 1e3 * (began - server.started) + seen["ttft"]["p50"]
                        seen["memory_mb"] = server.memory_mb()
                        if i >= 0:
                            self._note(bed, work, i, side, seen)

    def _note(self, bed: Bed, work: Work, i: int, side: str, seen: load.Seen) -> None:
        """Keep what one measurement gave."""
        figures: Figures = {metric.name: metric.of(seen) for metric in work.metrics}
        run = Run(bed=bed, work=work, side=side, figures=figures, seen=seen)
        self.report.runs.append(run)
        main_metric = work.metrics[0]
        say(i, work.name, side, f"{figures[main_metric.name]:.1f} {main_metric.unit}")

    def _warm_up(self, bed: Bed, server: Server) -> None:
        """Have every slot and route used once."""
        n = bed.n_parallel
        for work in {work.path: work for work in bed.works}.values():
            short = replace(work, max_tokens=8, shared=0, long=0)
            load.run(self.client, server.port, work.path, short.body(0), n=n, c=n)


def tokens_per_word(server: Server) -> float:
    """Ask a llama-server; with models of ours it is 1."""
    n_words = 1000
    tokens: list[int] = server.post("/tokenize", {"content": models.text(n_words, 1)})["tokens"]
    return len(tokens) / n_words


def say(i: int, what: str, side: str, figure: str) -> None:
    """Report progress."""
    print(f"round {i + 1}  {what:<24} {side:<33} {figure}", file=sys.stderr, flush=True)
