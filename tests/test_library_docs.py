"""The examples of docs/library.md run, and docs/configuration.md is a configuration."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import shimmy
from shimmy.cli import main
from shimmy.config import VARIABLES
from tests.support.served import serve

ROOT = Path(__file__).parents[1]
LIBRARY = (ROOT / "docs/library.md").read_text(encoding="utf-8")
CONFIGURATION = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with serve(tmp_path_factory.mktemp("home"), "-t", "1") as served:
        yield served.url


@pytest.mark.parametrize(
    ("source", "words"),
    list(
        zip(
            blocks(LIBRARY, "python"),
            ["llama.cpp", "stop ", "llama.cpp", "tool sunny in "],
            strict=True,
        )
    ),
)
def test_the_library_examples_run(source, words, url):
    source = source.replace("http://127.0.0.1:11435", url)
    done = subprocess.run(
        [sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert words in done.stdout


def test_the_names_in_the_library_page_exist():
    errors = re.findall(r"`(\w+Error)`", LIBRARY)
    assert errors
    assert not [name for name in errors if not hasattr(shimmy, name)]
    options = re.search(r"and by name: (.*?)\. It returns", LIBRARY, re.DOTALL)
    assert options is not None
    from shimmy.engine.chat import ChatOptions

    named = [name for name in re.findall(r"`(\w+)`", options[1]) if name != "SamplingParams"]
    assert named == list(ChatOptions.__annotations__)
    reply = re.search(r"a `Reply`: (.*?), the conversation", LIBRARY, re.DOTALL)
    assert reply is not None
    assert re.findall(r"`(\w+)`", reply[1]) == list(shimmy.Reply.__struct_fields__)


def test_the_example_configuration_is_one(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (source,) = blocks(CONFIGURATION, "toml")
    path = tmp_path / "shimmy.toml"
    path.write_text(source)
    result = CliRunner().invoke(main, ["config", "--config", str(path)])
    assert result.exit_code == 0, result.output
    rows = [line.split()[:2] for line in result.stdout.splitlines() if str(path) in line]
    assert ["models.max", "3"] in rows
    assert ["model.qwen3-4b.idle_unload", "3600.0"] in rows
    path.write_text(source.replace("n_ctx = 8192", "nctx = 8192"))
    refused = CliRunner().invoke(main, ["config", "--config", str(path)])
    assert "unknown key in [engine]: 'nctx'; did you mean 'n_ctx'?" in refused.output


def test_the_other_names_of_variables_are_all_there():
    rows = re.findall(r"^\| `(SHIMMY_\w+)` \| (.+?) \|$", CONFIGURATION, re.MULTILINE)
    found = {name: tuple(re.findall(r"`(\w+)`", others)) for name, others in rows}
    assert found == {variable.name: variable.also for variable in VARIABLES if variable.also}
