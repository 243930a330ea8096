"""The servers as processes: started on a free port, waited for, their CPU time read, always ended."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
from reference import ROOT, Reference

LLAMA, PATCHED, SHIMMY = "llama-server", "patched llama-server", "shimmy"
_START_S = 120.0
_STOP_S = 15.0


class Server:
    """A running server; used as a context manager. Its output goes to `log`."""

    def __init__(
        self,
        name: str,
        argv: list[str],
        port: int,
        log: Path,
        *,
        cwd: Path = ROOT,
        start_s: float = _START_S,
    ) -> None:
        self.name = name
        self.argv = argv
        self.port = port
        self.log = log
        self.started = time.monotonic()
        self._start_s = start_s
        with log.open("w") as output:
            # a group of its own, so that whatever it starts can be ended with it
            self._process = subprocess.Popen(
                argv,
                stdout=output,
                stderr=output,
                cwd=cwd,
                env=_environment(),
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def wait_ready(self) -> None:
        """Wait until the model is loaded."""
        while time.monotonic() < self.started + self._start_s:
            if self._process.poll() is not None:
                break
            if self._healthy():
                return
            time.sleep(0.02)
        tail = self.log.read_text(errors="replace")[-2000:]
        raise RuntimeError(f"{self.name} did not become ready: {' '.join(self.argv)}\n{tail}")

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:  # urllib's errors are of this kind: not listening yet, or 503
            return False

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str) -> dict[str, Any]:
        """Return the JSON that comes back."""
        with urllib.request.urlopen(self.url + path, timeout=120) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Send JSON, return the JSON that comes back."""
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def cpu_seconds(self) -> float:
        """Return the CPU time that it and its children have used."""
        total = 0.0
        for process in self._family():
            with suppress(psutil.Error):
                used = process.cpu_times()
                total += used.user + used.system
        return total

    def memory_mb(self) -> float:
        """Return the memory that it and its children hold; what they share, such as a mapped model, counts in parts."""
        total = 0
        for process in self._family():
            with suppress(psutil.Error):
                total += process.memory_full_info().pss
        return total / 1e6

    def stop(self) -> None:
        """End it and all that it started."""
        family = self._family()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_S)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for process in family:
            with suppress(psutil.Error):
                process.kill()
        self._process.wait()

    def _family(self) -> list[psutil.Process]:
        try:
            head = psutil.Process(self._process.pid)
            return [head, *head.children(recursive=True)]
        except psutil.Error:
            return []


def _environment() -> dict[str, str]:
    """Return ours, with bytecode on the disk, as an installed package has it."""
    off = {"PYTHONDONTWRITEBYTECODE"}
    return {name: value for name, value in os.environ.items() if name not in off}


def start(
    side: str,
    reference: Reference | None,
    model: Path | None,
    *,
    n_parallel: int,
    n_ctx: int,
    log: Path,
    template: Path | None = None,
) -> Server:
    """Start a side with the same model and the same flags, llama-server from `reference`; without a model, with shimmy's own."""
    port = free_port()
    size = ["-np", str(n_parallel), "-c", str(n_ctx), "-a", "m"]
    if side != SHIMMY:
        assert reference
        path = model or ROOT / "shimmy/models/demo/shimmy-demo.gguf"
        where = ["-m", str(path), "--host", "127.0.0.1", "--port", str(port)]
        argv = [reference.program("llama-server"), *where, *size, "--kv-unified"]
        argv += ["--jinja", "--chat-template-file", str(template)] if template else []
    else:
        where = [] if model is None else ["--model-path", str(model)]
        argv = [sys.executable, "-m", "shimmy", "serve", *where]
        argv += ["--bind", f"127.0.0.1:{port}", *(size if model else size[:-2])]
        argv += ["--chat-template", str(template)] if template else []
    return Server(side, argv, port, log)


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
