"""Which backend libraries this process has loaded, and what became of the others.

A library is tried in a process of its own before it is loaded here for the first time on a machine (`trial`). The caller
sees to it that one thread at a time is in here: ggml does not lock its registry.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from shimmy.llama import _checks, modules
from shimmy.llama._ffi import ffi, lib, take_text, text
from shimmy.llama.modules import ModuleFile
from shimmy.llama.trial import Verdict, judge
from shimmy.llama.verdicts import Verdicts

# they compute where the CPU does: nothing to hold them against
_ON_THE_CPU = {"cpu", "blas", "zendnn"}


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendModule:
    """One backend library that was built; `reason` says why it is not in use, None if it is.

    `said` is what the backend logged when it was loaded. `flash_attn` says why flash attention must
    not be used on its devices.
    """

    name: str
    file: Path
    loaded: bool
    reason: str | None
    said: str = ""
    flash_attn: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    """What came of one library: the backend that it registered, or why there is none."""

    module: ModuleFile
    verdict: Verdict
    backend: str | None = None
    reason: str | None = None
    said: str = ""


class Loader:
    """Loads the best library of each backend, and remembers why it left others out."""

    def __init__(self) -> None:
        """Nothing is loaded yet; `directories` are those that were."""
        self.directories: list[Path] = []
        self._attempts: dict[Path, _Attempt] = {}

    def load(self, directory: Path, *, retry: bool) -> None:
        """Load from a directory; a missing one is no error: a build without modules has them linked in."""
        self.directories.append(directory)
        verdicts = Verdicts()
        families = modules.families(directory)
        cpu = _sound_cpu(families, verdicts, retry=retry)
        for variants in families:
            for module in variants:
                attempt = _load(module, verdicts, cpu, retry=retry)
                self._attempts[module.path] = attempt
                if attempt.backend is not None:
                    break
        if extra := os.environ.get("GGML_BACKEND_PATH"):  # ggml's own way to one more
            module = modules.of(Path(extra))
            self._attempts[module.path] = _load(module, verdicts, cpu, retry=retry)

    def modules(self) -> tuple[BackendModule, ...]:
        """Return every library there is, with its state; loads those not in use for a moment."""
        listed = {file.path: file for folder in self.directories for file in modules.find(folder)}
        listed |= {path: attempt.module for path, attempt in self._attempts.items()}
        return tuple(_state(file, self._attempts.get(file.path)) for file in listed.values())

    def no_flash_attn(self, backend: str) -> str | None:
        """Return why flash attention must not be used on a backend's devices, None if it may."""
        for attempt in self._attempts.values():
            if attempt.backend == backend:
                return attempt.verdict.flash_attn
        return None

    def fault_of(self, device: str) -> str | None:
        """Return what was wrong with a device when it was tried, None if nothing was."""
        verdicts = (attempt.verdict for attempt in self._attempts.values())
        return next((one.devices[device] for one in verdicts if device in one.devices), None)

    def refusals(self) -> tuple[str, ...]:
        """Return which libraries were left out by their trial, and why."""
        attempts = self._attempts.values()
        return tuple(f"{one.module.name}: {one.reason}" for one in attempts if one.reason)


def _state(file: ModuleFile, attempt: _Attempt | None) -> BackendModule:
    loaded = attempt is not None and attempt.backend is not None
    reason = attempt.reason if attempt is not None else None
    return BackendModule(
        name=file.name,
        file=file.path,
        loaded=loaded,
        reason=None if loaded else reason or modules.why_not(file.path),
        said=attempt.said if attempt is not None else "",
        flash_attn=attempt.verdict.flash_attn if attempt is not None else None,
    )


def _sound_cpu(families: list[list[ModuleFile]], verdicts: Verdicts, *, retry: bool) -> Path | None:
    """Return the CPU's best library that passes its trial: those of GPUs are held against it."""
    for module in (module for variants in families for module in variants):
        if module.family == "cpu":
            path = module.path
            verdict = verdicts.of(path, lambda path=path: judge(path), retry=retry)  # type: ignore[misc]
            if verdict.problem is None:
                return path
    return None


def _load(module: ModuleFile, verdicts: Verdicts, cpu: Path | None, *, retry: bool) -> _Attempt:
    verdict = Verdict()
    if module.family != "rpc":  # it only speaks to a network, and when asked to
        reference = None if module.family in _ON_THE_CPU else cpu
        # a bad verdict on the CPU has been doubted already, by the one who looked for a sound one
        doubt = retry and module.family != "cpu"
        verdict = verdicts.of(module.path, lambda: judge(module.path, cpu=reference), retry=doubt)
    if verdict.problem is not None:
        line = f"the backend {module.name} is not used: {verdict.problem}"
        lib.shm_log_write(lib.GGML_LOG_LEVEL_WARN, line.encode())
        return _Attempt(module=module, verdict=verdict, reason=verdict.problem)
    said = ffi.new("char **")
    reg = lib.shm_backend_load(_checks.nul_free("file", str(module.path)), said)
    heard = "" if said[0] == ffi.NULL else take_text(said[0], "what the backend said")
    name = None if reg == ffi.NULL else text(lib.ggml_backend_reg_name(reg))
    return _Attempt(module=module, verdict=verdict, backend=name, said=heard)
