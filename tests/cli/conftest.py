from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from shimmy.cli import main
from tests.support.tiny_gguf import truncate, write_model


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """An empty home and working folder: no model of this machine is found."""
    folder = tmp_path / "home"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("SHIMMY_")]:
        monkeypatch.delenv(name)
    for name in ("HF_HOME", "HF_HUB_CACHE", "OLLAMA_MODELS", "LLAMA_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("XDG_DATA_HOME", str(folder / "data"))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def shimmy() -> Callable[..., Result]:
    """Run the command in this process."""

    def run(*args: str | Path, stdin: str | None = None) -> Result:
        result = CliRunner().invoke(main, [str(arg) for arg in args], input=stdin)
        assert result.exception is None or isinstance(result.exception, SystemExit), (
            f"{result.exception!r} escaped"
        )
        assert "Traceback" not in result.output
        return result

    return run


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """A model of random weights that loads in milliseconds."""
    return write_model(tmp_path_factory.mktemp("models") / "tiny.gguf")


@pytest.fixture(scope="session")
def slow(tmp_path_factory) -> Path:
    """A model that takes a while for a thousand tokens."""
    return write_model(tmp_path_factory.mktemp("models") / "slow.gguf", n_layer=48, n_ctx=8192)


@pytest.fixture(scope="session")
def broken(tiny, tmp_path_factory) -> Path:
    """A model whose file ends too early."""
    return truncate(tiny, tmp_path_factory.mktemp("models") / "broken.gguf", keep=0.8)
