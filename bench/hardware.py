"""What the figures of a report depend on: the machine, the system, the revision of shimmy."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import psutil
from reference import ROOT


def facts() -> dict[str, str]:
    """Return it as rows of a table."""
    load = " ".join(f"{value:.2f}" for value in psutil.getloadavg())
    return {
        "machine": f"{_cpu_name()}, {psutil.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "load before": load,
        "shimmy": _revision(),
    }


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    names = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next(
        (n.partition(":")[2].strip() for n in names if n.startswith("model name")),
        platform.processor() or platform.machine(),
    )


def _revision() -> str:
    from shimmy import __version__

    git = ["git", "-C", str(ROOT), "--no-optional-locks"]
    head = subprocess.run(
        [*git, "rev-parse", "--short", "HEAD"], check=False, capture_output=True, text=True
    )
    if head.returncode:
        return __version__
    changed = subprocess.run(
        [*git, "status", "--porcelain", "--", "shimmy", "native", "vendor"],
        check=False,
        capture_output=True,
        text=True,
    )
    return (
        f"{__version__}, {head.stdout.strip()}{' with changes' if changed.stdout.strip() else ''}"
    )
