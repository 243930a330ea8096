"""bench/moe: mixtures with and without experts in host memory, shimmy's server and llama-bench in turns, on the same libraries.

A whole run on a real GPU writes its tables into docs/moe.md; anything else is printed.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import hardware
import mixtures
import models
import moe_report
import reference
import streamed
import vram
from llama_bench import LlamaBench
from moe_report import Level, Run
from server import Server, free_port

DOCUMENT = reference.ROOT / "docs/moe.md"
FULL, QUICK = ("gpt-oss-20b", "olmoe-7b"), ("gpt-oss-tiny",)
# a large model's file has to be read, and a driver may compile its kernels
_START_S = 600.0
# software that calls itself a GPU: what it measures says nothing of one
_SOFTWARE = re.compile(r"llvmpipe|lavapipe|SwiftShader|PoCL|pocl", re.IGNORECASE)


def main() -> int:
    """Run the command."""
    arguments = parse()
    machine = system(arguments.python)
    devices = chosen(machine, arguments.gpu_backend)
    names = arguments.model or (QUICK if arguments.quick else FULL)
    wanted = ("llama-bench",)
    built = (
        reference.existing(arguments.reference, wanted)
        if arguments.reference
        else reference.build(wanted)
    )
    bench = LlamaBench(built, arguments.python, flash_attn(machine, devices))
    run = Run(
        command=shlex.join(["bench/moe", *sys.argv[1:]]),
        machine=hardware.facts(),
        devices=[one["description"] for one in devices] or ["no GPU: the CPU alone"],
        n_prompt=arguments.prompt,
        n_tokens=arguments.tokens,
        n_runs=arguments.runs,
    )
    for name in names:
        path = mixtures.mixture(name, arguments.models)
        for n_cpu_moe in levels(name, quick=arguments.quick):
            run.levels.append(measure(arguments, name, path, n_cpu_moe, bench))
            print(moe_report.progress(run.levels[-1]), file=sys.stderr, flush=True)
    print(json.dumps(run.as_json(), indent=1) if arguments.json else "\n".join(run.lines()))
    real = bool(devices) and not any(_SOFTWARE.search(one["description"]) for one in devices)
    out = arguments.out or (
        DOCUMENT if real and not arguments.quick and not arguments.model else None
    )
    if out is not None:
        moe_report.write(out, run)
        print(f"written: {out}", file=sys.stderr)
    return 0


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="bench/moe", description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="a tiny mixture, short prompts: to see that it works")
    add("--model", metavar="NAME", action="append", choices=sorted(mixtures.MIXTURES))
    add("--runs", metavar="N", type=int, default=5, help="after a warm-up; default and least: 5")
    add("--prompt", metavar="N", type=int, help="tokens; default 512, 64 with --quick")
    add("--tokens", metavar="N", type=int, help="to generate; default 128, 16 with --quick")
    add("--gpu-backend", metavar="NAME", default="auto", help="as shimmy's; default auto")
    add("--python", metavar="FILE", type=Path, default=Path(sys.executable),
        help="of an environment that has shimmy with the backend, such as build/backends/venv/bin/python")  # fmt: skip
    add("--reference", metavar="DIR", type=Path, help="a llama-bench built before, in DIR/bin")
    add("--models", metavar="DIR", type=Path, help="mixtures made before, such as gpt-oss-20b.gguf")
    add("--out", metavar="FILE", type=Path, help="a document to write into, between its marks")
    add("--json", action="store_true", help="print JSON, every single run in it")
    arguments = parser.parse_args()
    if arguments.runs < 5:
        parser.error("--runs: at least 5, or the spread says nothing")
    # not resolved: an environment's python is a link
    arguments.python = arguments.python.absolute()
    arguments.prompt = arguments.prompt or (64 if arguments.quick else 512)
    arguments.tokens = arguments.tokens or (16 if arguments.quick else 128)
    return arguments


def system(python: Path) -> dict[str, Any]:
    """Return what `shimmy gpu-info` says there."""
    # away from the tree, whose shimmy/ would be imported instead
    command = [str(python), "-m", "shimmy", "gpu-info", "--json"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=tempfile.gettempdir()
    )
    if done.returncode:
        sys.exit(f"{shlex.join(command)}: {done.stderr.strip()}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def chosen(machine: dict[str, Any], backend: str) -> list[dict[str, Any]]:
    """Return the devices that a value of --gpu-backend uses; none is the CPU."""
    choices = {one["backend"]: one for one in machine["choices"]}
    if backend not in choices:
        sys.exit(f"--gpu-backend: {backend!r} is not one of {', '.join(choices)}")
    if choices[backend]["problem"] is not None:
        sys.exit(f"--gpu-backend {backend}: {choices[backend]['problem']}")
    return [one for one in machine["devices"] if one["name"] in choices[backend]["devices"]]


def flash_attn(machine: dict[str, Any], devices: list[dict[str, Any]]) -> str:
    """Return what shimmy makes of --flash-attn auto on these devices."""
    used = {one["backend"] for one in devices}
    broken = [one for one in machine["backends"] if one["name"] in used and one["flash_attn"]]
    return "off" if broken else "auto"


def levels(name: str, *, quick: bool) -> list[int]:
    """Return the numbers of layers whose experts stay in host memory, from none to all."""
    n_layer = mixtures.MIXTURES[name].n_layer
    parts = (0, 2, 4) if quick else (0, 1, 2, 3, 4)
    return [n_layer * part // 4 for part in parts]


def measure(
    arguments: argparse.Namespace, name: str, path: Path, n_cpu_moe: int, bench: LlamaBench
) -> Level:
    """Measure one placement on both sides, one after the other: both need the GPU's memory."""
    n_ctx = arguments.prompt + arguments.tokens + 64
    port, before = free_port(), vram.used_mib()
    argv = [str(arguments.python), "-m", "shimmy", "serve", "--model-path", str(path), "-np", "1"]
    argv += [
        "--bind",
        f"127.0.0.1:{port}",
        "-c",
        str(n_ctx),
        "--gpu-backend",
        arguments.gpu_backend,
    ]
    argv += ["--n-cpu-moe", str(n_cpu_moe), "-a", "m", *bench.flags]
    log = reference.BUILD / "moe.log"
    with Server(
        "shimmy", argv, port, log, cwd=Path(tempfile.gettempdir()), start_s=_START_S
    ) as server:
        server.wait_ready()
        placement = server.get("/props")["placement"]
        # two: the first fills caches and compiles kernels, the second has the lengths of the others
        for seed in (-2, -1):
            ask(server.port, arguments, seed)
        during = vram.used_mib()
        timed = [ask(server.port, arguments, seed) for seed in range(arguments.runs)]
    rates = bench.rates(
        path, n_cpu_moe=n_cpu_moe, n_prompt=arguments.prompt, n_tokens=arguments.tokens,
        n_runs=arguments.runs, on_gpu=any(part["device"] != "CPU" for part in placement),
    )  # fmt: skip
    return Level(
        model=name,
        n_layer=mixtures.MIXTURES[name].n_layer,
        n_cpu_moe=n_cpu_moe,
        placement=placement,
        driver_mib=None if before is None or during is None else during - before,
        timed=timed,
        bench=rates,
    )


def ask(port: int, arguments: argparse.Namespace, seed: int) -> streamed.Timed:
    """Send a prompt that nobody has seen before, of exactly as many tokens as asked for."""
    limits = {"max_tokens": arguments.tokens, "ignore_eos": True, "temperature": 0}
    prompt = models.text(arguments.prompt, seed=1000 + seed)
    return streamed.ask(port, {"model": "m", "prompt": prompt, **limits})


if __name__ == "__main__":
    sys.exit(main())
