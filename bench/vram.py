"""Memory in use on this machine's GPUs, as the drivers count it: whoever uses it, libraries' own share too."""

from __future__ import annotations

import subprocess
from pathlib import Path


def used_mib() -> float | None:
    """Return the MiB in use over all GPUs, None where no driver tells."""
    found = _nvidia()
    return found if found is not None else _amd(Path("/sys/class/drm"))


def _nvidia() -> float | None:
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30)
        return float(sum(int(line) for line in done.stdout.split()))
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def _amd(cards: Path) -> float | None:
    sizes = [int(file.read_text()) for file in cards.glob("card*/device/mem_info_vram_used")]
    return sum(sizes) / 2**20 if sizes else None
