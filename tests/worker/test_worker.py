from __future__ import annotations

import subprocess
import sys


def test_a_worker_starts_without_what_generating_text_does_not_need():
    code = (
        "import sys, shimmy.worker.worker\n"
        "heavy = {'numpy', 'asyncio', 'subprocess', 'tempfile', 'ctypes'}\n"
        "sys.exit(str(heavy & sys.modules.keys()) if heavy & sys.modules.keys() else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
