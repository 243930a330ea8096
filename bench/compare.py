"""bench/run: build the references, make the models, measure all servers in turns, write the report."""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import subprocess
import sys
import types
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import hardware
import load
import reference
from document import Document
from reference import Reference
from report import Report
from server import LLAMA, PATCHED, SHIMMY
from turns import Turns
from work import Bed
from works import FULL, QUICK

from shimmy.engine.types.options import EngineOptions
from shimmy.worker.cores import n_threads

DOCUMENT = reference.ROOT / "docs/benchmarks.md"


def main() -> int:
    """Run the command."""
    arguments = parse()
    signal.signal(signal.SIGTERM, _interrupt)
    beds = chosen(QUICK if arguments.quick else FULL, arguments.only)
    rounds = arguments.rounds or (2 if arguments.quick else 3)
    client = load.compile_load()
    programs, released = built(arguments, beds)
    servers = ({LLAMA: released} if released else {}) | (
        {PATCHED: programs} if arguments.patched else {}
    )
    result = Report(
        command=command(),
        rounds=rounds,
        sides=(*servers, SHIMMY),
        sources={side: one.source for side, one in servers.items()} | {"ceilings": programs.source},
        machine=hardware.facts(),
        n_threads=n_threads(EngineOptions(model_path="")),
    )
    turns = Turns(
        client=client,
        programs=programs,
        released=released,
        servers=servers,
        models=arguments.models,
        report=result,
    )
    try:
        for bed in beds:
            try:
                turns.measure(bed)
            except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                result.failed = True
                result.problems.append(f"{bed.name}: {error}")
                print(f"{bed.name}: {error}", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        result.failed = True
        result.problems.append("interrupted: what follows was not measured")
    result.ended()
    document = Document(result)
    text = json.dumps(result.as_json(), indent=1) if arguments.json else document.as_text()
    print(text)
    out = arguments.out or (None if arguments.quick or arguments.only else DOCUMENT)
    if out and result.runs:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(document.as_markdown())
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
        "--pinned",
        action=argparse.BooleanOptionalAction,
        help="measure llama-server as released, for which the goals are; default yes, no with --quick: it is built apart",
    )
    parser.add_argument(
        "--patched",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="measure llama-server with shimmy's patches too; the default",
    )
    parser.add_argument(
        "--reference",
        metavar="DIR",
        type=Path,
        help="programs with the patches, built before, in DIR/bin",
    )
    parser.add_argument(
        "--pinned-reference",
        metavar="DIR",
        type=Path,
        help="programs as released, built before, in DIR/bin",
    )
    parser.add_argument(
        "--models", metavar="DIR", type=Path, help="models made before, such as tiny-Q8_0.gguf"
    )
    arguments = parser.parse_args()
    if arguments.pinned is None:
        arguments.pinned = not arguments.quick or arguments.pinned_reference is not None
    if not (arguments.pinned or arguments.patched):
        parser.error("no llama-server is left to measure: --pinned or --patched")
    return arguments


def built(arguments: argparse.Namespace, beds: Sequence[Bed]) -> tuple[Reference, Reference | None]:
    """Return the programs with the patches, and those as released if they are measured."""
    single = any(work.ceiling == 1 for bed in beds for work in bed.works)
    unused = ((arguments.patched, "llama-server"), (single, "llama-bench"))
    leave = {name for used, name in unused if not used}
    wanted = [name for name in reference.PROGRAMS if name not in leave]
    programs = (
        reference.existing(arguments.reference, wanted)
        if arguments.reference
        else reference.build(wanted)
    )
    if not arguments.pinned:
        return programs, None
    wanted = [name for name in reference.PINNED_PROGRAMS if single or name != "llama-bench"]
    if arguments.pinned_reference:
        return programs, reference.existing(arguments.pinned_reference, wanted)
    return programs, reference.build(wanted, patched=False)


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


def command() -> str:
    """Return the command line as it was given."""
    return shlex.join(["bench/run", *sys.argv[1:]])


def _interrupt(_number: int, _frame: types.FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
