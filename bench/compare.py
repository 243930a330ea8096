"""bench/run: build the reference, make the models, measure both servers in turns, write the report."""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import subprocess
import sys
import time
import types
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import load
import models
import quiet
import reference
import report
from report import Figures, Report, Run
from server import LLAMA, SIDES, Server, start
from work import Bed, Work
from works import FULL, QUICK

DOCUMENT = reference.ROOT / "docs/benchmarks.md"
# CPU time of the side that waits, as a share of the time measured; more than this disturbs the other
IDLE_SHARE = 0.05
# a measurement during which others used more of the cores than this is done again, after waiting for them
_DISTURBED, _ATTEMPTS, _WAIT_S = 0.10, 2, 30.0


def main() -> int:
    """Run the command."""
    arguments = parse()
    signal.signal(signal.SIGTERM, _interrupt)
    beds = chosen(QUICK if arguments.quick else FULL, arguments.only)
    rounds = arguments.rounds or (2 if arguments.quick else 3)
    program = load.compile_load()
    built = reference.existing(arguments.reference) if arguments.reference else reference.build()
    result = Report(command=command(), rounds=rounds, source=built.source, machine=report.machine())
    try:
        for bed in beds:
            try:
                measure(bed, rounds, program, built, arguments.models, result)
            except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                result.failed = True
                result.problems.append(f"{bed.name}: {error}")
                print(f"{bed.name}: {error}", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        result.failed = True
        result.problems.append("interrupted: what follows was not measured")
    result.ended()
    text = json.dumps(result.as_json(), indent=1) if arguments.json else result.as_text()
    print(text)
    out = arguments.out or (None if arguments.quick or arguments.only else DOCUMENT)
    if out and result.runs:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(result.as_markdown())
        print(f"written: {out}", file=sys.stderr)
    return 1 if result.failed else 0


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="bench/run", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one model, two rounds, for CI")
    parser.add_argument(
        "--only", metavar="NAME", action="append", help="only this work or model; may be repeated"
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=Path,
        help="write the report there; default docs/benchmarks.md for a whole run",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, every single run in it")
    parser.add_argument("--rounds", metavar="N", type=int, help="default 3; 2 with --quick")
    parser.add_argument(
        "--reference", metavar="DIR", type=Path, help="programs built before, in DIR/bin"
    )
    parser.add_argument(
        "--models", metavar="DIR", type=Path, help="models made before, such as tiny-Q8_0.gguf"
    )
    return parser.parse_args()


def chosen(beds: Sequence[Bed], names: list[str] | None) -> list[Bed]:
    """Return the beds with only the works asked for."""
    known = {name for bed in beds for name in (bed.name, *(work.name for work in bed.works))}
    if unknown := set(names or ()) - known:
        sys.exit(f"no {', '.join(sorted(unknown))}; there are: {', '.join(sorted(known))}")
    found = []
    for bed in beds:
        works = tuple(w for w in bed.works if not names or bed.name in names or w.name in names)
        if works:
            found.append(replace(bed, works=works))
    return found


def measure(
    bed: Bed,
    rounds: int,
    program: Path,
    built: reference.Reference,
    directory: Path | None,
    result: Report,
) -> None:
    """Measure the works of a bed in turns: of each round, each work on one side and then on the other."""
    if bed.model is None:
        measure_start(bed, rounds, program, built, result)
        return
    model = models.model(bed.model, directory, built)
    with ExitStack() as stack:
        servers = []
        for side in SIDES:
            log = reference.BUILD / f"{side}.log"
            server = start(
                side,
                built,
                model,
                n_parallel=bed.n_parallel,
                n_ctx=bed.n_ctx,
                log=log,
                template=bed.template,
            )
            servers.append(stack.enter_context(server))
        for server in servers:
            server.wait_ready()
            warm_up(bed, server, program)
        density = tokens_per_word(servers[SIDES.index(LLAMA)])
        for i in range(rounds):
            measure_ceilings(bed, i, built, model, result)
            for work in bed.works:
                for server in servers:
                    others = [other for other in servers if other is not server]
                    once(bed, work, i, server, others, program, density, result)


def measure_ceilings(
    bed: Bed, i: int, built: reference.Reference, model: Path, result: Report
) -> None:
    """Run llama-batched-bench with as many sequences as the works have."""
    for n_streams in sorted({work.ceiling for work in bed.works if work.ceiling}):
        for unified in (False, True) if n_streams > 8 else (False,):
            quiet.wait(_WAIT_S)
            size = {"n_ctx": bed.n_ctx, "n_streams": n_streams, "n_tokens": 128}
            rate = reference.ceiling(built, model, unified=unified, **size)
            result.ceilings.setdefault((bed.name, n_streams, unified), []).append(rate)
            how = f"llama-batched-bench, {n_streams}{', unified' if unified else ''}"
            say(i, bed.name, how, f"{rate:.1f} tok/s")


def once(
    bed: Bed,
    work: Work,
    i: int,
    server: Server,
    others: list[Server],
    program: Path,
    density: float,
    result: Report,
) -> None:
    """Measure a work once on one side."""
    for attempt in range(_ATTEMPTS):
        quiet.wait(_WAIT_S)
        # another text each time, the same one for both sides: neither knows it from before
        tag = 1000 * (10 * i + attempt + 1)
        before, idle = server.cpu_seconds(), sum(other.cpu_seconds() for other in others)
        watch = quiet.Watch()
        seen = load.run(
            program,
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
        if seen["others_share"] <= _DISTURBED:
            break
        say(
            i,
            work.name,
            server.name,
            f"disturbed: others used {seen['others_share']:.0%} of the cores",
        )
    where = f"{work.name}, round {i + 1}, {server.name}"
    if seen["others_share"] > _DISTURBED:
        result.problems.append(f"{where}: others used {seen['others_share']:.0%} of the cores")
    if idle > IDLE_SHARE * seen["seconds"]:
        result.problems.append(f"{where}: the other server used {idle:.2f} s of CPU meanwhile")
    if not work.long and seen["tokens"] != seen["ok"] * work.max_tokens:
        result.problems.append(
            f"{where}: {seen['tokens']} tokens came, not {seen['ok'] * work.max_tokens}"
        )
    note(bed, work, i, server.name, seen, result)


def measure_start(
    bed: Bed, rounds: int, program: Path, built: reference.Reference, result: Report
) -> None:
    """Measure from the start of a process to the first token that a client sees."""
    # the first round fills the page cache and is not counted
    for i in range(-1, rounds):
        for side in SIDES:
            log = reference.BUILD / f"{side}.log"
            with start(
                side, built, None, n_parallel=bed.n_parallel, n_ctx=bed.n_ctx, log=log
            ) as server:
                server.wait_ready()
                for work in bed.works:
                    body = work.body(1) | {"model": "m" if side == LLAMA else "shimmy-demo"}
                    began = time.monotonic()
                    seen = load.run(program, server.port, work.path, body, n=work.n, c=work.c)
                    seen["start_ms"] = 1e3 * (began - server.started) + seen["ttft"]["p50"]
                    seen["memory_mb"] = server.memory_mb()
                    if i >= 0:
                        note(bed, work, i, side, seen, result)


def note(bed: Bed, work: Work, i: int, side: str, seen: load.Seen, result: Report) -> None:
    """Keep what one measurement gave."""
    figures: Figures = {metric.name: metric.of(seen) for metric in work.metrics}
    result.runs.append(Run(bed=bed, work=work, side=side, figures=figures, seen=seen))
    main_metric = work.metrics[0]
    say(i, work.name, side, f"{figures[main_metric.name]:.1f} {main_metric.unit}")


def warm_up(bed: Bed, server: Server, program: Path) -> None:
    """Have every slot and route used once."""
    for work in {work.path: work for work in bed.works}.values():
        short = replace(work, max_tokens=8, shared=0, long=0)
        load.run(program, server.port, work.path, short.body(0), n=bed.n_parallel, c=bed.n_parallel)


def tokens_per_word(server: Server) -> float:
    """Ask llama-server; with models of ours it is 1."""
    n_words = 1000
    tokens: list[int] = server.post("/tokenize", {"content": models.text(n_words, 1)})["tokens"]
    return len(tokens) / n_words


def say(i: int, what: str, side: str, figure: str) -> None:
    """Report progress."""
    print(f"round {i + 1}  {what:<24} {side:<33} {figure}", file=sys.stderr, flush=True)


def command() -> str:
    """Return the command line as it was given."""
    return shlex.join(["bench/run", *sys.argv[1:]])


def _interrupt(_number: int, _frame: types.FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
