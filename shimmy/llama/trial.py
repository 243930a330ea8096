"""The first use of a backend library on a machine, in a process that may die of it.

`tryout` is what runs in that process.
"""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from shimmy.errors import BackendError

Check = Literal["compute", "flash_attn"]

# A GPU driver compiles its kernels at the first use, and a machine may be busy.
TRIAL_SECONDS = 120.0
_PROGRAM = "from shimmy.llama.tryout import main; main()"
RETRY = "--retry-backends tries it again"
_TAIL_BYTES = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the trial of a library found; None and nothing where all is well.

    `problem` keeps the whole library out, `devices` names those of its devices that are wrong, and
    `flash_attn` says why flash attention must not be used on it.
    """

    problem: str | None = None
    flash_attn: str | None = None
    devices: dict[str, str] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        """Whether nothing speaks against the library."""
        return self.problem is None and self.flash_attn is None and not self.devices


@dataclass(frozen=True, slots=True)
class _Outcome:
    """How one trial process ended: what is wrong with each device, or what it died of."""

    devices: dict[str, str]
    death: str | None = None


def judge(path: Path, *, cpu: Path | None = None) -> Verdict:
    """Try a library. With `cpu`, the CPU's own library, flash attention too, which drivers fail at more often."""
    outcome = _run("compute", path)
    wrong = {name: problem for name, problem in outcome.devices.items() if problem}
    if outcome.death is not None:
        return Verdict(problem=f"{outcome.death} when it was tried; {RETRY}")
    if wrong and len(wrong) == len(outcome.devices):
        name, problem = next(iter(wrong.items()))
        return Verdict(
            problem=f"it computed wrongly when it was tried ({name}: {problem}); {RETRY}"
        )
    if cpu is None or not outcome.devices:
        return Verdict(devices=wrong)
    attention = _run("flash_attn", path, cpu)
    reason = attention.death or next((text for text in attention.devices.values() if text), None)
    return Verdict(devices=wrong, flash_attn=reason)


def _run(check: Check, *paths: Path) -> _Outcome:
    import subprocess  # trials are rare, workers are not

    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _PROGRAM, check, *paths],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TRIAL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return _Outcome({}, f"it gave no answer within {TRIAL_SECONDS:.0f} s")
    except OSError as error:
        raise BackendError(f"no process to try {paths[0].name} in: {error}") from error
    if done.returncode != 0:
        return _Outcome({}, _death(done.returncode, done.stderr))
    return _Outcome({entry["device"]: entry["problem"] for entry in json.loads(done.stdout)})


def _death(code: int, stderr: bytes) -> str:
    lines = stderr[-_TAIL_BYTES:].decode("utf-8", "replace").split("\n")
    said = next((line.strip() for line in reversed(lines) if line.strip()), "")
    said = f" after saying '{said}'" if said else ""
    if code > 0:
        return f"it ended the process with exit code {code}{said}"
    try:
        return f"it crashed ({signal.Signals(-code).name}){said}"
    except ValueError:
        return f"it crashed (signal {-code}){said}"
