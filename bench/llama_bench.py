"""llama-bench on the very libraries of the shimmy that is measured: what differs is then what is around them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import psutil
from reference import BUILD, Reference


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Tokens per second, one for each repetition: of the prompt, and of generation behind it."""

    prompt: list[float]
    generation: list[float]


class LlamaBench:
    """Runs llama-bench with shimmy's libllama, libggml and backends in the place of its own."""

    def __init__(self, reference: Reference, python: Path, flash_attn: str) -> None:
        """`python` has the shimmy whose libraries are taken; `flash_attn` is on, off or auto."""
        self._libraries = _linked(_libraries(python))
        # ggml looks for backends beside the program first: a link would lead it to those of the reference
        self._program = shutil.copy(reference.program("llama-bench"), self._libraries)
        # written alike on both sides
        n_threads = psutil.cpu_count(logical=False) or os.cpu_count() or 1
        self.flags = ("-t", str(n_threads), "-b", "2048", "-ub", "512", "-fa", flash_attn)
        """What shimmy gets too."""

    def rates(
        self,
        model: Path,
        *,
        n_cpu_moe: int,
        n_prompt: int,
        n_tokens: int,
        n_runs: int,
        on_gpu: bool,
    ) -> Rates:
        """Measure at the same flags: generation behind a prompt of the same length, as in the server."""
        command = [str(self._program), "-m", str(model), "-r", str(n_runs), "-o", "json"]
        command += ["-ncmoe", str(n_cpu_moe), *self.flags]
        command += ["-ngl", "99" if on_gpu else "0"]
        # one model is loaded for each test: the prompt's, and the generation's
        prompt = self._run([*command, "-p", str(n_prompt), "-n", "0"])
        return Rates(
            prompt=prompt,
            generation=self._run([*command, "-p", "0", "-n", str(n_tokens), "-d", str(n_prompt)]),
        )

    def _run(self, command: list[str]) -> list[float]:
        environment = os.environ | {"LD_LIBRARY_PATH": str(self._libraries)}
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}\n{done.stderr[-2000:]}")
        [test] = json.loads(done.stdout[done.stdout.index("[") :])
        return [float(rate) for rate in test["samples_ts"]]


def _libraries(python: Path) -> Path:
    """Return where the libraries of an environment's shimmy lie."""
    code = "import importlib.util as u; print(u.find_spec('shimmy').origin)"
    done = subprocess.run(
        [str(python), "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=tempfile.gettempdir(),
    )
    return Path(done.stdout.strip()).parent / "llama/lib"


def _linked(libraries: Path) -> Path:
    """Return a folder with the libraries under the names that llama-bench was linked with too."""
    folder = BUILD / "libraries"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for library in libraries.glob("*.so"):
        for name in (library.name, f"{library.name}.0"):
            (folder / name).symlink_to(library)
    return folder
