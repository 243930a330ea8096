"""What people type wrongly: each is answered with one sentence that says what to do instead."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tests.models import gguf
from tests.support.nobody import nobody

USAGE, FAILURE = 2, 1


@pytest.fixture(autouse=True)
def files(home, broken) -> None:
    """What the mistakes below are about, in the working folder."""
    (home / "folder").mkdir()
    (home / "text.gguf").write_text("hello")
    (home / "short.gguf").write_bytes(b"GGUF")
    os.link(broken, home / "cut.gguf")
    gguf.write_lora(home / "style.gguf")
    gguf.write(home / "m.gguf", fields={"llama.embedding_length": 32})
    gguf.write_projector(home / "eyes.gguf")
    gguf.write_projector(home / "ears.gguf", 32, "audio")
    (home / "bad.toml").write_text("x = [")


def said(result) -> str:
    """Return the sentence: the last line of standard error, of which there may be usage lines before."""
    lines = result.stderr.strip().splitlines()
    assert len(lines) == (4 if result.exit_code == USAGE else 1), result.stderr
    return lines[-1]


NOT_GGUF = "it is not a GGUF model file; convert it first, or choose another file"
FOLDER = "it is a folder; name the .gguf file in it"
HEADER = "the file ends inside its header, after 4 bytes; fetch it again, or choose another file"
NO_PROMPT = "give a prompt: --prompt TEXT, or text on standard input"


@pytest.mark.parametrize(
    ("command", "code", "sentence"),
    [
        ("serv", USAGE, "there is no command 'serv'; did you mean 'serve'?"),
        ("xyzzy", USAGE, "there is no command 'xyzzy'; `shimmy --help` lists them"),
        ("serve -c abc", USAGE, "'-c' / '--ctx-size': 'abc' is not a whole number of at least 1"),
        ("serve -c 0", USAGE, "'0' is not a whole number of at least 1"),
        ("serve --port 99999", USAGE, "'99999' is not a whole number from 0 to 65535"),
        ("serve -np 1.5", USAGE, "'1.5' is not a whole number from 1 to 256"),
        ("serve --rope-freq-base 0", USAGE, "'0' is not a number greater than 0"),
        ("serve --gpu-backend gtx", USAGE, "'gtx' is not one of 'auto', 'cpu', "),
        ("serve --cpu-moe --n-cpu-moe 3", USAGE, "--cpu-moe cannot be used with --n-cpu-moe"),
        ("serve --idle-unload 5x", USAGE, "'5x': expected a time, such as 300, 90s, 5m or 1h"),
        ("serve --models-memory lots", USAGE, "'lots': expected a size, such as 8GB"),
        ("serve --alias=", USAGE, "'--alias': give a name that requests can ask for"),
        ("serve --lora none.gguf", USAGE, "adapter file none.gguf not found"),
        ("serve --lora text.gguf", USAGE, f"adapter text.gguf: {NOT_GGUF}"),
        ("serve --lora cut.gguf", USAGE, "cut.gguf is no LoRA adapter, its metadata says llm"),
        ("serve --mmproj none.gguf", USAGE, "'-mm' / '--mmproj': projector file none.gguf not found"),
        ("serve --mmproj text.gguf", USAGE, f"projector text.gguf: {NOT_GGUF}"),
        ("serve --mmproj style.gguf", USAGE, "'-mm' / '--mmproj': style.gguf is no projector, its metadata says adapter"),
        ("serve --mmproj ears.gguf", USAGE, "projector ears.gguf is for sound, which is not supported yet"),
        ("serve --mmproj eyes.gguf --no-mmproj", USAGE, "--mmproj cannot be used with --no-mmproj"),
        ("serve --image-min-tokens 0", USAGE, "'--image-min-tokens': '0' is not a whole number of at least 1"),
        ("serve --image-min-tokens 9 --image-max-tokens 8", FAILURE, "--image-min-tokens 9 is more than --image-max-tokens 8"),
        ("generate m.gguf --prompt hi --mmproj eyes.gguf", FAILURE, "--mmproj: eyes.gguf is made for a model that is 64 wide, and m is 32: give the projector that came with the model"),
        ("generate eyes.gguf --prompt hi", FAILURE, "it is the projector of a multimodal model: give the model, and this with --mmproj"),
        ("serve --bind here", FAILURE, "--bind: expected auto or HOST:PORT (such as 127.0.0.1:11435), got 'here'"),
        ("serve --config none.toml", FAILURE, "--config: there is no file none.toml"),
        ("serve --config bad.toml", FAILURE, "bad.toml is not TOML: "),
        ("serve --model-path none.gguf", FAILURE, "none.gguf cannot be read: No such file or directory; check the path"),
        ("serve --model-path folder", FAILURE, FOLDER),
        ("serve --model-path text.gguf", FAILURE, NOT_GGUF),
        ("serve --model-path short.gguf", FAILURE, HEADER),
        ("generate none --prompt hi", FAILURE, "Model 'none' not found. Available models: ['shimmy-demo']"),
        ("generate none.gguf --prompt hi", FAILURE, "No such file or directory; check the path"),
        ("generate folder --prompt hi", FAILURE, FOLDER),
        ("generate cut.gguf --prompt hi", FAILURE, "bytes; fetch it again"),
        ("generate style.gguf --prompt hi", FAILURE, "it is a LoRA adapter, no model: give the model, and this with --lora"),
        ("generate", USAGE, NO_PROMPT),
        ("generate --prompt hi --temperature hot", USAGE, "'--temperature': 'hot' is not a number"),
        ("generate --prompt hi --temperature -1", FAILURE, "temperature must be between 0 and 1000, got -1.0"),
        ("generate --prompt hi --gpu-backend cuda", FAILURE, "pip install . -C cmake.define.GGML_CUDA=ON"),
        ("inspect folder", FAILURE, FOLDER),
        ("inspect text.gguf", FAILURE, NOT_GGUF),
        ("probe text.gguf", FAILURE, NOT_GGUF),
        ("rm shimmy-demo", FAILURE, "a part of shimmy itself"),
        ("pull nonsense", FAILURE, "`shimmy recommend --all` lists it"),
        ("bench --url nonsense", FAILURE, "--url: 'nonsense' is not http://HOST:PORT/v1"),
    ],
)  # fmt: skip
def test_a_mistake_is_answered_with_what_to_do(shimmy, command, code, sentence):
    result = shimmy(*command.split())
    assert result.exit_code == code, result.output
    assert sentence in said(result)
    assert result.stdout == ""


def test_a_model_without_the_ending_of_one_is_taken_by_its_path(shimmy, home, tiny):
    os.link(tiny, home / "nameless")
    assert "nameless" in shimmy("inspect", "nameless").stdout


@pytest.fixture
def taken() -> int:
    """A port that somebody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_port_in_use_is_named(shimmy, taken):
    result = shimmy("serve", "--bind", f"127.0.0.1:{taken}")
    assert result.exit_code == FAILURE
    assert f"127.0.0.1:{taken}" in said(result)
    assert "in use" in said(result)


@pytest.fixture
def closed(taken: int) -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_server_that_is_not_there_is_said_in_plain_words(shimmy, closed):
    result = shimmy("bench", "--url", f"http://127.0.0.1:{closed}/v1")
    assert said(result) == (
        f"error: nobody answers at http://127.0.0.1:{closed}/v1: check the address, or start a server there"
    )
    result = shimmy("pull", f"http://127.0.0.1:{closed}/x.gguf")
    assert "cannot be reached (Connection refused): check the network" in said(result)


def test_a_file_that_may_not_be_read_is_named(shimmy, shared: Path, monkeypatch):
    (shared / "text.gguf").touch(0)
    monkeypatch.chdir(shared)
    monkeypatch.setenv("HOME", str(shared))
    with nobody():
        result = shimmy("inspect", "text.gguf")
    assert "text.gguf cannot be read: Permission denied" in said(result)


def test_serve_ends_where_the_projector_is_another_models(shimmy):
    result = shimmy("serve", "-m", "m.gguf", "--mmproj", "eyes.gguf", "--port", "0")
    assert result.exit_code == FAILURE
    assert "eyes.gguf is made for a model that is 64 wide, and m is 32" in said(result)
