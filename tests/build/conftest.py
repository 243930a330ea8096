"""Paths of the repository, and a CMake that only configures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


@pytest.fixture
def root() -> Path:
    return ROOT


@pytest.fixture
def configure(tmp_path: Path):
    """Run cmake's configure step with `defines` and return its exit code and its output as one line."""

    def run(*defines: str, **environment: str) -> tuple[int, str]:
        done = subprocess.run(
            [
                BIN / "cmake", "-S", ROOT, "-B", tmp_path / "build", "-G", "Ninja",
                f"-DCMAKE_MAKE_PROGRAM={BIN / 'ninja'}", f"-DPython_EXECUTABLE={sys.executable}", *defines,
            ],
            capture_output=True, text=True, env=os.environ | environment, check=False,
        )  # fmt: skip
        # CMake wraps messages at 80 columns
        return done.returncode, " ".join((done.stdout + done.stderr).split())

    return run
