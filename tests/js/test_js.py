"""Runs each script of this folder with the machine's Node: a file of `node:test` cases."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.served import Served

HERE = Path(__file__).parent


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", sorted(path.name for path in HERE.glob("*.mjs")))
def test_the_javascript_client_works(name: str, clients: Path, served: Served) -> None:
    # imports are looked up from where the script lies
    script = shutil.copy(HERE / name, clients)
    done = subprocess.run(
        ["node", "--test", "--test-reporter=spec", script],
        check=False,
        cwd=clients,
        env={**os.environ, "SHIMMY_URL": served.url},
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stdout + done.stderr
