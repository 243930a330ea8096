"""The first use of a backend library on a machine, in a process that may die of it.

`tryout` is what runs in that process.
"""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from shimmy.errors import BackendError

if TYPE_CHECKING:
    import subprocess

Check = Literal["compute", "flash_attn"]

# A GPU driver compiles its kernels at the first use: so long it may compute, and so long do nothing.
TRIAL_SECONDS = 120.0
# On a busy machine it may get little of the processors: then it takes up to so many times as long.
_MOST = 5
_LOOKS = 8
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
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _PROGRAM, check, *paths],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    except OSError as error:
        raise BackendError(f"no process to try {paths[0].name} in: {error}") from error
    with process:
        said = _patiently(process)
        if said is None:
            process.kill()
            return _Outcome({}, f"it gave no answer within {TRIAL_SECONDS:.0f} s")
    if process.returncode != 0:
        return _Outcome({}, _death(process.returncode, said[1]))
    return _Outcome({entry["device"]: entry["problem"] for entry in json.loads(said[0])})


def _patiently(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes] | None:
    """Return what a process says until its end, None when it hangs.

    Looks are counted, not seconds: who is stopped together with it for a while does not notice.
    """
    from subprocess import TimeoutExpired

    used, n_idle = 0.0, 0
    look = TRIAL_SECONDS / _LOOKS
    for _ in range(_LOOKS * _MOST):
        try:
            return process.communicate(timeout=look)
        except TimeoutExpired:
            before, used = used, _cpu_seconds(process.pid)
        n_idle = 0 if used - before > look / 100 else n_idle + 1
        if n_idle >= _LOOKS or used >= TRIAL_SECONDS:
            return None
    return None


def _cpu_seconds(pid: int) -> float:
    import psutil

    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0  # it has just ended
    return float(times.user + times.system)


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
