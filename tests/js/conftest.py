"""The JavaScript clients, installed once from the lockfile, and a server for them."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.served import Served, serve

HERE = Path(__file__).parent
BUILD = HERE.parents[1] / "build" / "js"


@pytest.fixture(scope="session")
def clients() -> Path:
    """The folder with the installed packages: `npm ci` when the lockfile is a new one."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("needs node and npm")
    BUILD.mkdir(parents=True, exist_ok=True)
    lockfile = (HERE / "package-lock.json").read_bytes()
    wanted = hashlib.sha256(lockfile).hexdigest()
    stamp = BUILD / "installed"
    with (BUILD / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != wanted:
            for name in ("package.json", "package-lock.json"):
                shutil.copy(HERE / name, BUILD)
            subprocess.run(
                ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
                cwd=BUILD,
                check=True,
                timeout=300,
            )
            stamp.write_text(wanted)
    return BUILD


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory.mktemp("home"), "-np", "4") as server:
        yield server
