"""Runs the load generator (load.c) and returns what it saw."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from reference import BUILD

SOURCE = Path(__file__).with_name("load.c")
Seen = dict[str, Any]


def compile_load() -> Path:
    """Compile load.c unless that is done."""
    program = BUILD / "load"
    BUILD.mkdir(parents=True, exist_ok=True)
    if not program.exists() or program.stat().st_mtime < SOURCE.stat().st_mtime:
        compiler = os.environ.get("CC", "cc")
        subprocess.run([compiler, "-O2", "-o", str(program), str(SOURCE)], check=True)
    return program


def run(
    program: Path,
    port: int,
    path: str,
    body: dict[str, Any],
    *,
    n: int,
    c: int,
    first: int = 0,
    long: dict[str, Any] | None = None,
) -> Seen:
    """Send `n` requests, `c` at a time, and return load.c's figures. A failed request is an error."""
    files = {"body": body} | ({"long": long} if long else {})
    argv = [str(program), f"port={port}", f"path={path}", f"n={n}", f"c={c}", f"first={first}"]
    for name, content in files.items():
        file = BUILD / f"{name}.json"
        file.write_text(json.dumps(content))
        argv.append(f"{name}={file}")
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip()[-1500:]}")
    seen: Seen = json.loads(done.stdout)
    return seen
