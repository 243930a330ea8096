"""A real `shimmy serve` process, and plain HTTP to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SECONDS = 60.0


class Served:
    """A running server; `url` has no trailing slash. `log` is what it printed after its address."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        self.url = url
        self.log: list[str] = []

    def get(self, path: str) -> tuple[int, Any]:
        """Return status and JSON body, also for errors."""
        return self._fetch(urllib.request.Request(self.url + path))

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Return status and JSON body, also for errors."""
        data = json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        return self._fetch(urllib.request.Request(self.url + path, data, headers))

    def wait_healthy(self, seconds: float = SECONDS) -> dict[str, Any]:
        """Poll /health until it is 200; return its body."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            status, body = self.get("/health")
            if status == 200:
                return dict(body)
            assert status == 503, body
            time.sleep(0.02)
        raise AssertionError("the server did not become healthy")

    def wait_idle(self, seconds: float = 5.0) -> None:
        """Wait until no request is in flight."""
        end = time.monotonic() + seconds
        while self.get("/health")[1]["requests_active"]:
            assert time.monotonic() < end, "requests are still in flight"
            time.sleep(0.02)

    def worker_pid(self) -> int:
        """Return the pid of the one worker process."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        (pid,) = [int(word) for word in children.read_text().split()]
        return pid

    def _fetch(self, request: urllib.request.Request) -> tuple[int, Any]:
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read() or b"null")


@contextmanager
def serve(home: Path, *args: str) -> Iterator[Served]:
    """Run `shimmy serve` with an empty home until the block is left; then it must end by itself."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SHIMMY_")}
    environment |= {
        "HOME": str(home),
        "XDG_DATA_HOME": str(home / "data"),
        "XDG_CACHE_HOME": str(home / "cache"),
        # empty is as good as unset: no model of this machine is found
        "HF_HOME": "",
        "HF_HUB_CACHE": "",
        "OLLAMA_MODELS": "",
        "LLAMA_CACHE": "",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "shimmy", "serve", "--bind", "127.0.0.1:0", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=home,
        env=environment,
    )
    drain = None
    try:
        served = Served(process, _address(process))
        # a pipe that nobody reads fills up, and stops the server
        drain = threading.Thread(target=_read_all, args=(process, served.log))
        drain.start()
        served.wait_healthy()
        yield served
        process.terminate()
        assert process.wait(SECONDS) == 0
    finally:
        process.kill()
        process.wait()
        if drain is not None:
            drain.join()
        if process.stdout is not None:
            process.stdout.close()


def _read_all(process: subprocess.Popen[str], log: list[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        log.append(line)  # noqa: PERF402 - seen while it grows


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if line.startswith("listening"):
            return "http://" + line.split()[1]
    raise AssertionError("".join(seen))
