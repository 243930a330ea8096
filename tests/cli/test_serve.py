"""`shimmy serve` as a process of its own, over a real worker."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import psutil
import pytest

from tests.models import gguf
from tests.support.tiny_gguf import write_model

START = 30.0


class Server:
    """A running `shimmy serve`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []

    def until(self, word: str) -> str:
        """Read its output up to a line with `word`."""
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if word in line:
                return line
        raise AssertionError(f"no {word!r} in {self.lines}")

    @property
    def url(self) -> str:
        (line,) = [line for line in self.lines if line.startswith("listening")]
        return f"http://{line.split()[1]}"

    def get(self, path: str) -> dict:
        with urllib.request.urlopen(self.url + path, timeout=START) as answer:
            return json.load(answer)

    def post(self, path: str, **body) -> dict:
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=START) as answer:
            return json.load(answer)

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(START)


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    with ExitStack() as stack:

        def start(*args, **environ) -> Server:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "shimmy",
                    "serve",
                    "--bind",
                    "127.0.0.1:0",
                    "-t",
                    "1",
                    *args,
                ],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env={**os.environ, **environ},
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return Server(process)

        yield start


def test_the_banner_says_what_is_there_and_ends_with_ready(serve, tiny):
    server = serve("--model-path", tiny, "-np", "3", "-c", "1024")
    server.until("ready")
    text = "\n".join(server.lines)
    assert re.search(r"^shimmy \d", text)
    assert f"tiny, {tiny.stat().st_size / 1000:.1f} kB, {tiny}" in text
    assert "CPU" in text
    assert "1024 tokens for 3 slots" in text
    assert f"{server.url}/v1" in text
    assert "\x1b" not in text
    assert server.get("/health")["status"] == "ok"
    assert server.end() == 0


def test_it_answers_chats(serve, tiny):
    server = serve("--model-path", tiny, "-a", "gpt-4")
    server.until("ready")
    answer = server.post(
        "/v1/chat/completions",
        model="gpt-4",
        messages=[{"role": "user", "content": "hi"}],
        max_tokens=5,
        temperature=0,
    )
    assert answer["usage"]["completion_tokens"] == 5
    assert server.end(signal.SIGINT) == 0


def test_with_models_max_1_models_are_swapped_on_request(serve, tmp_path):
    for name in ("one", "two"):
        write_model(tmp_path / f"{name}.gguf", seed=len(name))
    server = serve("--model-dirs", str(tmp_path), "--models-max", "1")
    server.until("ready")
    worker = psutil.Process(server.process.pid).children()[0]
    for name in ("two", "one", "two"):
        answer = server.post("/v1/completions", model=name, prompt="hi", max_tokens=3)
        assert answer["model"] == name
        assert len(psutil.Process(server.process.pid).children()) == 1
    assert not worker.is_running()
    with pytest.raises(urllib.error.HTTPError) as caught:
        server.post("/v1/completions", model="three", prompt="hi")
    assert caught.value.code == 404
    assert "one" in caught.value.read().decode()
    assert server.end() == 0


def test_a_named_model_that_does_not_load_ends_the_server_with_1(serve, broken):
    server = serve("--model-path", broken)
    server.until("error: ")
    assert server.process.wait(START) == 1
    assert "Traceback" not in "\n".join([*server.lines, *server.process.stdout])


def test_a_discovered_model_that_does_not_load_leaves_the_others(serve, tmp_path, tiny):
    # whole by its header, so that it is offered; one that is cut short is not even listed
    gguf.write(tmp_path / "a.gguf", "no-such-architecture")
    (tmp_path / "b.gguf").symlink_to(tiny)
    server = serve("--model-dirs", str(tmp_path))
    server.until("error: ")
    answer = server.post("/v1/completions", model="b", prompt="hi", max_tokens=3)
    assert answer["usage"]["completion_tokens"] == 3
    assert server.end() == 0


@pytest.mark.parametrize(
    "args",
    [["--gpu-backend", "metal"], ["-ot", "x=NO_SUCH_BUFFER"], ["-ctv", "q4_0", "-fa", "off"]],
)
def test_a_flag_that_no_model_can_have_ends_the_server_with_1(serve, tmp_path, tiny, args):
    for name in ("a", "b"):
        (tmp_path / f"{name}.gguf").symlink_to(tiny)
    server = serve("--model-dirs", str(tmp_path), *args)
    server.until("error: ")
    assert server.process.wait(START) == 1


def test_the_only_model_that_does_not_load_ends_the_server_with_1(tmp_path):
    gguf.write(tmp_path / "only.gguf", "no-such-architecture")
    code = "from shimmy.models import registry; registry.demo_entry = lambda: None\n"
    code += "from shimmy.cli import main; main(prog_name='shimmy')"
    args = ["serve", "--bind", "127.0.0.1:0", "--model-dirs", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-c", code, *args],
        capture_output=True,
        text=True,
        timeout=START,
        check=False,
    )
    assert done.returncode == 1
    assert "error: " in done.stderr
    assert "no-such-architecture" in done.stderr


def test_a_port_in_use_is_one_sentence_and_exit_1(serve, tiny):
    server = serve("--model-path", tiny)
    server.until("ready")
    port = server.url.rpartition(":")[2]
    second = serve("--model-path", tiny, "--bind", f"127.0.0.1:{port}")
    line = second.until("error: ")
    assert port in line
    assert second.process.wait(START) == 1
    assert server.end() == 0


def test_sigterm_while_loading_ends_it_cleanly(serve, tiny):
    server = serve("--model-path", tiny)
    server.until("listening")
    time.sleep(0.05)
    assert server.end() in {0, -signal.SIGTERM}  # before or after the handler was there
    assert "Traceback" not in "\n".join([*server.lines, *server.process.stdout])


def test_without_any_model_it_serves_the_demo_and_says_so(serve):
    server = serve()
    server.until("ready")
    assert "(built-in demo model)" in "\n".join(server.lines)
    answer = server.post(
        "/v1/chat/completions",
        model="shimmy-demo",
        messages=[{"role": "user", "content": "What is shimmy?"}],
        temperature=0,
    )
    assert "shimmy" in answer["choices"][0]["message"]["content"].lower()
    assert server.end() == 0


@pytest.mark.parametrize(
    ("environ", "colour"),
    [
        ({"TERM": "xterm-256color"}, True),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
    ],
)
def test_colours_are_for_terminals_that_want_them(tiny, environ, colour):
    ours, theirs = pty.openpty()
    environ = {key: value for key, value in os.environ.items() if key != "NO_COLOR"} | environ
    with subprocess.Popen(
        [sys.executable, "-m", "shimmy", "serve", "-m", tiny, "--bind", "127.0.0.1:0", "-t", "1"],
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        env=environ,
    ) as process:
        os.close(theirs)
        output = b""
        while b"Ctrl-C" not in output:
            output += os.read(ours, 4096)
        process.terminate()
    os.close(ours)
    assert bool(re.search(rb"\x1b\[[0-9;]*3[0-9]m", output)) is colour
    if environ["TERM"] == "dumb":
        assert b"\x1b" not in output
