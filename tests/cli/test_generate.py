from __future__ import annotations

import io
import json
import re
import signal
import subprocess
import sys

import click
import psutil
import pytest

from shimmy.cli.commands import generate as module
from tests.models.test_stores import LIBRARY, manifest

GREEDY = ("-t", "1", "--temperature", "0", "--max-tokens", "12")


def test_the_text_and_nothing_else_goes_to_stdout(shimmy, tiny):
    streamed = shimmy("generate", tiny, "--prompt", "hello", *GREEDY)
    whole = shimmy("generate", tiny, "--prompt", "hello", *GREEDY, "--no-stream")
    data = json.loads(shimmy("generate", tiny, "--prompt", "hello", *GREEDY, "--json").stdout)
    assert streamed.exit_code == 0
    assert streamed.stdout_bytes == whole.stdout_bytes == data["text"].encode() + b"\n"


def test_without_a_model_the_demo_answers(shimmy):
    result = shimmy("generate", "--prompt", "What is shimmy?", "--temperature", "0")
    assert result.exit_code == 0
    assert "llama.cpp" in result.stdout


def test_json_has_counts_reason_and_timings(shimmy, tiny):
    data = json.loads(shimmy("generate", tiny, "--prompt", "hello", *GREEDY, "--json").stdout)
    assert data["model"] == "tiny"
    assert data["finish_reason"] == "length"
    assert data["usage"]["completion_tokens"] == 12
    assert data["timings"]["predicted_ms"] > 0


def test_the_chat_template_is_applied_unless_raw(shimmy, tiny):
    def n_prompt(*args: str) -> int:
        result = shimmy("generate", tiny, "--prompt", "hello", *GREEDY, "--json", *args)
        return json.loads(result.stdout)["usage"]["prompt_tokens"]

    assert n_prompt("--raw") < n_prompt() < n_prompt("--system", "Be brief.")


@pytest.mark.parametrize("args", [[], ["--prompt", "-"]])
def test_the_prompt_comes_from_stdin(shimmy, tiny, args):
    named = shimmy("generate", tiny, "--prompt", "hello", *GREEDY)
    piped = shimmy("generate", tiny, *args, *GREEDY, stdin="hello\n")
    assert piped.stdout == named.stdout


def test_without_a_prompt_on_a_terminal_it_says_so(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    with pytest.raises(click.UsageError, match="--prompt"):
        module._read(None)


def test_bytes_that_are_not_utf8_are_taken_on_stdin(tiny):
    done = subprocess.run(
        [sys.executable, "-m", "shimmy", "generate", tiny, *GREEDY],
        input=b"caf\xe9",
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_same_seed_gives_the_same_text(shimmy, tiny):
    def text(seed: str) -> str:
        args = ("--prompt", "hello", "-t", "1", "--max-tokens", "12", "--temperature", "1")
        result = shimmy("generate", tiny, *args, "--seed", seed)
        assert result.exit_code == 0
        return result.stdout

    assert text("1") == text("1") != text("2")


def test_a_stop_string_ends_the_text(shimmy, tiny):
    args = ("--prompt", "hello", *GREEDY, "--max-tokens", "60", "--json")
    whole = json.loads(shimmy("generate", tiny, *args).stdout)["text"]
    stop = max(re.findall(r"[a-z]+", whole), key=len)  # random weights: other text is no text
    data = json.loads(shimmy("generate", tiny, *args, "--stop", stop).stdout)
    assert data["finish_reason"] == "stop"
    assert data["stop"] == stop
    assert data["text"] == whole[: whole.index(stop)]


def test_no_tokens_give_no_text(shimmy, tiny):
    result = shimmy("generate", tiny, "--prompt", "hello", "--max-tokens", "0")
    assert (result.exit_code, result.stdout) == (0, "\n")


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["--top-p", "7"], "top_p"),
        (["--temperature", "-1"], "temperature"),
        (["--seed", "-5"], "seed"),
        (["--stop", ""], "stop"),
    ],
)
def test_a_parameter_out_of_its_range_is_one_sentence(shimmy, tiny, args, word):
    result = shimmy("generate", tiny, "--prompt", "x", *args)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert word in result.stderr


def test_raw_with_a_system_message_is_refused(shimmy, tiny):
    result = shimmy("generate", tiny, "--prompt", "x", "--raw", "--system", "y")
    assert result.exit_code == 2
    assert "cannot be used with" in result.stderr


def test_an_unknown_model_lists_those_there_are(shimmy, tiny):
    result = shimmy("generate", "gpt-4", "--prompt", "x", "--model-dirs", tiny.parent)
    assert result.exit_code == 1
    assert "gpt-4" in result.stderr
    assert "tiny" in result.stderr


def test_a_model_that_does_not_load_is_one_error(shimmy, broken):
    result = shimmy("generate", broken, "--prompt", "x")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "broken.gguf" in result.stderr


def test_a_prompt_longer_than_the_context_is_refused(shimmy, tiny):
    result = shimmy("generate", tiny, "--prompt", "hello " * 500, "-c", "256", "-t", "1")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "256" in result.stderr


@pytest.fixture
def interruptible():
    """Let children take SIGINT, even if we were started in the background with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def running(slow, interruptible):
    """A command in the middle of a long text."""
    args = ["--prompt", "x", "--temperature", "0", "-t", "1", "-c", "8192", "--max-tokens", "8000"]
    with subprocess.Popen(
        [sys.executable, "-m", "shimmy", "generate", slow, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout.read(20)
            yield process
        finally:
            process.kill()


def worker_of(pid: int) -> psutil.Process:
    (worker,) = psutil.Process(pid).children()
    return worker


def test_ctrl_c_in_the_middle_ends_with_130_and_no_worker_left(running):
    worker = worker_of(running.pid)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=20)
    assert running.returncode == 130
    assert b"Traceback" not in errors
    assert not worker.is_running()


def test_a_reader_that_leaves_ends_it_quietly(running):
    running.stdout.close()
    assert running.wait(timeout=20) == 141
    assert running.stderr.read() == b""


def test_a_killed_command_leaves_no_worker(running):
    worker = worker_of(running.pid)
    running.kill()
    worker.wait(timeout=20)


@pytest.fixture
def stored(tiny, home):
    """The same model in Ollama's store, which says how it is to be asked."""
    layers = {
        "model": tiny.read_bytes(),
        "system": b"Answer at length, whatever it is.",
        "params": b'{"temperature": 0, "num_predict": 5, "seed": 3, "stop": ["never said"]}',
    }
    manifest(home / ".ollama" / "models", f"{LIBRARY}/stored/1b", layers)
    return "stored:1b"


def test_what_the_store_says_holds_where_no_flag_says_otherwise(shimmy, tiny, stored):
    def made(model, *args: str) -> dict:
        result = shimmy("generate", model, "--prompt", "hello", "-t", "1", "--json", *args)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    system = "Answer at length, whatever it is."
    own = made(stored)
    assert own["usage"]["completion_tokens"] == 5
    same = made(tiny, "--temperature", "0", "-n", "5", "--system", system)
    assert (own["text"], own["usage"]["prompt_tokens"]) == (
        same["text"],
        same["usage"]["prompt_tokens"],
    )
    assert made(stored, "-n", "9")["usage"]["completion_tokens"] == 9
    assert (
        made(stored, "--temperature", "2", "-n", "20")["text"] != made(stored, "-n", "20")["text"]
    )
    n_prompt = made(stored, "--system", "Be brief.")["usage"]["prompt_tokens"]
    assert n_prompt == made(tiny, "-n", "1", "--system", "Be brief.")["usage"]["prompt_tokens"]
    raw = made(stored, "--raw")["usage"]
    assert raw["completion_tokens"] == 5
    assert raw["prompt_tokens"] == made(tiny, "-n", "1", "--raw")["usage"]["prompt_tokens"]


def test_an_empty_system_message_leaves_the_stores_out(shimmy, stored):
    args = ("generate", stored, "--prompt", "hello", "-t", "1", "--json")
    n_prompt = [
        json.loads(shimmy(*args, *more).stdout)["usage"]["prompt_tokens"]
        for more in ([], ["--system", ""])
    ]
    assert n_prompt[0] > n_prompt[1] + 10
