from __future__ import annotations

import json

import pytest

from shimmy.models import registry as registry_module
from shimmy.models.entry import ModelEntry
from tests.models import gguf


@pytest.fixture(autouse=True)
def demo(monkeypatch):
    entry = ModelEntry(
        name="shimmy-demo",
        path="/package/shimmy-demo.gguf",
        size=3_100_000,
        source="builtin",
        modified=1,
        note="built-in demo model",
        architecture="llama",
    )
    monkeypatch.setattr(registry_module, "demo_entry", lambda: entry)


def test_list_says_that_the_demo_is_a_demo(shimmy):
    result = shimmy("list")
    assert result.exit_code == 0
    assert "shimmy-demo" in result.stdout
    assert "built-in demo model" in result.stdout
    assert "3.1 MB" in result.stdout


def test_list_shows_what_is_in_models(shimmy, home):
    path = gguf.write(home / "models" / "tiny[red]x.gguf", "qwen3")
    line = next(line for line in shimmy("list").stdout.splitlines() if "tiny" in line)
    assert line.split() == [
        "tiny[red]x",
        f"{path.stat().st_size}",
        "B",
        "qwen3",
        "discovered",
        str(path),
    ]


@pytest.mark.parametrize("flag", ["-s", "--short"])
def test_short_prints_one_name_per_line(shimmy, home, flag):
    gguf.write(home / "models" / "b.gguf")
    gguf.write(home / "models" / "a.gguf")
    assert shimmy("list", flag).stdout == "a\nb\nshimmy-demo\n"


def test_json_has_every_field(shimmy, home):
    path = gguf.write(home / "models" / "m.gguf", "qwen3")
    models = json.loads(shimmy("list", "--json").stdout)["models"]
    assert models[0] == {
        "name": "m",
        "path": str(path),
        "size": path.stat().st_size,
        "source": "discovered",
        "modified": int(path.stat().st_mtime),
        "note": None,
        "architecture": "qwen3",
    }
    assert models[1]["note"] == "built-in demo model"


def test_short_and_json_together_are_refused(shimmy):
    result = shimmy("list", "--short", "--json")
    assert result.exit_code == 2
    assert "cannot be used with" in result.stderr


@pytest.mark.parametrize("before", [True, False])
def test_model_dirs_may_stand_before_or_after_the_command(shimmy, tmp_path, before):
    gguf.write(tmp_path / "x" / "one.gguf")
    gguf.write(tmp_path / "y" / "two.gguf")
    flag = ["--model-dirs", f"{tmp_path / 'x'};{tmp_path / 'y'}"]
    args = [*flag, "list", "-s"] if before else ["list", "-s", *flag]
    assert shimmy(*args).stdout.split() == ["one", "two", "shimmy-demo"]


def test_the_variable_names_folders_too(shimmy, tmp_path, monkeypatch):
    gguf.write(tmp_path / "x" / "one.gguf")
    monkeypatch.setenv("SHIMMY_MODEL_PATHS", f"/nowhere;{tmp_path / 'x'}")
    assert shimmy("list", "-s").stdout.split() == ["one", "shimmy-demo"]


def test_the_base_model_of_the_environment_comes_first(shimmy, tmp_path, home, monkeypatch):
    gguf.write(home / "models" / "a.gguf")
    gguf.write(tmp_path / "x" / "beside.gguf")
    monkeypatch.setenv("SHIMMY_BASE_GGUF", str(gguf.write(tmp_path / "x" / "base.gguf")))
    assert shimmy("list", "-s").stdout.split() == ["base", "a", "beside", "shimmy-demo"]


def test_a_base_model_that_is_gone_only_names_a_folder(shimmy, tmp_path, monkeypatch):
    gguf.write(tmp_path / "x" / "beside.gguf")
    monkeypatch.setenv("SHIMMY_BASE_GGUF", str(tmp_path / "x" / "gone.gguf"))
    assert shimmy("list", "-s").stdout.split() == ["beside", "shimmy-demo"]


def test_discover_shows_only_what_lies_in_folders(shimmy, home):
    gguf.write(home / "models" / "m.gguf")
    result = shimmy("discover", "--json")
    assert [model["name"] for model in json.loads(result.stdout)["models"]] == ["m"]


def test_discover_says_where_it_looked_when_there_is_nothing(shimmy, home):
    result = shimmy("discover", "--model-dirs", "/nowhere")
    assert result.exit_code == 0
    assert str(home / "models") in result.stdout
    assert "/nowhere (no such folder)" in result.stdout
    assert "--model-dirs" in result.stdout


def test_discover_json_is_json_when_there_is_nothing(shimmy):
    assert json.loads(shimmy("discover", "--json").stdout) == {"models": []}


def test_llm_only_goes_by_architecture_not_by_name(shimmy, home):
    gguf.write(home / "models" / "bert-the-llama.gguf", "llama")
    gguf.write(home / "models" / "llama-the-bert.gguf", "bert")
    result = shimmy("discover", "--llm-only", "--json")
    assert [model["name"] for model in json.loads(result.stdout)["models"]] == ["bert-the-llama"]
