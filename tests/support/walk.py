"""Runs the commands of a document's `console` blocks, in an empty home, and writes down what they print.

`python -m tests.support.walk docs/first-steps.md` brings the document up to date; a test runs the same
and compares. `shimmy serve` ends with the walk; what differs from run to run is shortened.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.models.hub import Hub, serving

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "shimmy/models/demo/shimmy-demo.gguf"
PORT = 11435
SECONDS = 120
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# what is another each time, and what it is shortened to
_VARIES = (
    (r'"id":"chatcmpl-\w+"', '"id":"chatcmpl-…"'),
    (r'"created":\d+', '"created":…'),
    (r',"timings":\{[^}]*\}', ""),
    (r"^(devices|threads) +.*$", r"\1 …"),
    (r"after [\d.]+ s of loading", "after … s of loading"),
)


class Walk:
    """A home with nothing in it, a hub that has one model, and the server that was started."""

    def __init__(self, home: Path, hub: Hub, stack: ExitStack) -> None:
        self.home = home
        self._stack = stack
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        kept = {key: value for key, value in os.environ.items() if not key.startswith("SHIMMY_")}
        self._environment = kept | {
            "HOME": str(home),
            "XDG_DATA_HOME": str(home / ".local/share"),
            "XDG_CACHE_HOME": str(home / ".cache"),
            "XDG_CONFIG_HOME": str(home / ".config"),
            "HF_ENDPOINT": hub.url,
            **dict.fromkeys(("HF_HOME", "HF_HUB_CACHE", "OLLAMA_MODELS", "LLAMA_CACHE"), ""),
        }

    def run(self, line: str) -> str:
        """Run one command line, and return what it prints, errors too."""
        words = shlex.split(line.replace(str(PORT), str(self._port)))
        if words[-1] == "&":
            return self._serve(words[:-1])
        done = subprocess.run(
            self._program(words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            cwd=self.home, env=self._environment, timeout=SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        return self._shown(done.stdout)

    def _serve(self, words: list[str]) -> str:
        process = subprocess.Popen(
            [*self._program(words), "--port", str(self._port)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            cwd=self.home, env=self._environment,
        )  # fmt: skip
        assert process.stdout is not None
        self._stack.callback(process.stdout.close)
        self._stack.callback(process.wait, SECONDS)
        self._stack.callback(process.terminate)
        said = []
        for line in process.stdout:
            said.append(line)
            if line.startswith("ready"):
                break
        return self._shown("".join(said))

    def _program(self, words: list[str]) -> list[str]:
        return [sys.executable, "-m", *words] if words[0] == "shimmy" else words

    def _shown(self, text: str) -> str:
        text = text.replace(str(self._port), str(PORT)).replace(str(self.home), "~")
        text = text.replace(str(ROOT), "…")
        for pattern, short in _VARIES:
            text = re.sub(pattern, short, text, flags=re.MULTILINE)
        return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())


@contextmanager
def walking(home: Path) -> Iterator[Walk]:
    """Begin a walk; the hub's one model is the built-in one under the name of a real one."""
    with ExitStack() as stack:
        hub = stack.enter_context(serving(Hub()))
        hub.add("Qwen/Qwen3-0.6B-GGUF", **{"Qwen3-0.6B-Q8_0.gguf": DEMO.read_bytes()})
        yield Walk(home.resolve(), hub, stack)


def walked(document: str, home: Path) -> str:
    """Return the document with what its commands print now."""
    with walking(home) as walk:

        def again(block: re.Match[str]) -> str:
            lines = [line[2:] for line in block[1].splitlines() if line.startswith("$ ")]
            said = [f"$ {line}\n{walk.run(line)}".rstrip() for line in lines]
            return "```console\n" + "\n".join(said) + "\n```"

        return _BLOCK.sub(again, document)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(name)
            path.write_text(walked(path.read_text("utf-8"), Path(folder)), "utf-8")
