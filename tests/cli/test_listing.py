from __future__ import annotations

import json

import pytest

from shimmy.models import registry as registry_module
from shimmy.models.entry import ModelEntry
from tests.models import gguf
from tests.models.test_stores import manifest
from tests.support.nobody import nobody


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
    fields = {"qwen3.context_length": 40_960, "general.file_type": 15}
    path = gguf.write(home / "models" / "tiny[red]x.gguf", "qwen3", fields=fields)
    line = next(line for line in shimmy("list").stdout.splitlines() if "tiny" in line)
    assert line.split() == [
        "tiny[red]x",
        f"{path.stat().st_size}",
        "B",
        "32",
        "Q4_K_M",
        "qwen3",
        "40960",
        "folder",
        str(path),
    ]


def test_list_says_what_a_model_is_for_and_in_how_many_files(shimmy, home):
    gguf.write(home / "models" / "b.gguf", "bert")
    for number in range(2):
        fields = {"split.no": (2, number), "split.count": (2, 2)}
        gguf.write(home / "models" / f"big-{number + 1:05}-of-00002.gguf", fields=fields)
    lines = shimmy("list").stdout.splitlines()
    assert "bert (embedding)" in next(line for line in lines if line.startswith("b "))
    assert " B in 2 " in next(line for line in lines if line.startswith("big "))


def test_list_counts_what_cannot_be_used(shimmy, home):
    assert "cannot be used" not in shimmy("list").stdout
    (home / "models").mkdir()
    (home / "models" / "page.gguf").write_text("<html>")
    assert "1 more cannot be used: `shimmy discover` says why." in shimmy("list").stdout


@pytest.mark.parametrize("flag", ["-s", "--short"])
def test_short_prints_one_name_per_line(shimmy, home, flag):
    gguf.write(home / "models" / "b.gguf")
    gguf.write(home / "models" / "a.gguf")
    assert shimmy("list", flag).stdout == "a\nb\nshimmy-demo\n"


def test_json_has_every_field(shimmy, home):
    path = gguf.write(home / "models" / "m.gguf", "qwen3", fields={"general.file_type": 15})
    lora = gguf.write_lora(home / "models" / "style.gguf", "qwen3", n_layer=0)
    models = json.loads(shimmy("list", "--json").stdout)["models"]
    assert models[0] == {
        "name": "m",
        "path": str(path),
        "size": path.stat().st_size,
        "source": "discovered",
        "modified": int(path.stat().st_mtime),
        "note": None,
        "architecture": "qwen3",
        "kind": "llm",
        "aliases": [],
        "store": "folder",
        "size_label": None,
        "n_params": 32,
        "quantisation": "Q4_K_M",
        "n_ctx_train": None,
        "n_embd": None,
        "n_expert": None,
        "n_shards": 1,
        "has_template": False,
        "adapters": [{"name": "style", "path": str(lora)}],
        "lora": [],
        "projector": None,
        "senses": [],
        "projector_objection": None,
        "chat_template": None,
        "system": None,
        "parameters": {},
        "objection": None,
    }
    assert models[1]["note"] == "built-in demo model"


@pytest.mark.parametrize("command", ["list", "discover"])
def test_short_and_json_together_are_refused(shimmy, command):
    result = shimmy(command, "--short", "--json")
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
    nothing = {"models": [], "adapters": [], "skipped": []}
    assert json.loads(shimmy("discover", "--json").stdout) == nothing


@pytest.mark.parametrize("command", ["list", "discover"])
def test_issue_80_llm_only_goes_by_metadata_not_by_name(shimmy, home, command):
    gguf.write(home / "models" / "bert-the-vision-clip-llama.gguf", "llama")
    gguf.write(home / "models" / "llama-the-bert.gguf", "bert")
    gguf.write(home / "models" / "qwen3.gguf", "qwen3", fields={"qwen3.pooling_type": 4})
    result = shimmy(command, "--llm-only", "--short")
    names = [name for name in result.stdout.split() if name != "shimmy-demo"]
    assert names == ["bert-the-vision-clip-llama"]


def test_discover_shows_adapters_and_what_they_fit(shimmy, home):
    gguf.write(home / "models" / "base.gguf", fields={"llama.embedding_length": 32})
    path = gguf.write_lora(home / "models" / "style.gguf")
    result = shimmy("discover")
    line = next(line for line in result.stdout.splitlines() if line.startswith("style"))
    assert line.split() == ["style", "base", str(path)]
    assert "style" not in shimmy("list").stdout


SOUND = "not used: sound is not supported yet"


@pytest.mark.parametrize(
    ("sense", "said", "inputs"),
    [("vision", "vision", ["input          text, images"]), ("audio", SOUND, [])],
)
def test_a_projector_of_ollamas_is_shown_with_its_model_and_what_it_is_for(
    shimmy, home, sense, said, inputs
):
    store = home / ".ollama" / "models"
    layers = {"model": gguf.model("qwen2vl"), "projector": gguf.projector(64, sense)}
    manifest(store, "registry.ollama.ai/library/eyes/7b", layers)
    for command in ("list", "discover"):
        title, columns, row = shimmy(command).stdout.split("\n\n")[1].splitlines()[:3]
        assert title == "Projectors, through which models see images:"
        assert columns.split() == ["OF", "FOR", "PATH"]
        name, *words, path = row.split()
        assert (name, " ".join(words)) == ("eyes:7b", said)
    assert path.startswith(str(store / "blobs" / "sha256-"))
    lines = shimmy("inspect", "eyes:7b").stdout.splitlines()
    assert [line for line in lines if line.startswith("projector")] == [
        f"projector      {path} ({said})"
    ]
    assert [line for line in lines if line.startswith("input")] == inputs
    [model, _] = json.loads(shimmy("list", "--json").stdout)["models"]
    assert (model["projector"], model["senses"]) == (path, [sense])
    assert "\n\n" not in shimmy("list", "-s").stdout


def test_discover_says_why_something_cannot_be_used(shimmy, home):
    gguf.write(home / "models" / "big-00001-of-00003.gguf")
    result = shimmy("discover")
    assert "big-00001-of-00003.gguf  1 of 3 shards are there" in result.stdout
    (skipped,) = json.loads(shimmy("discover", "--json").stdout)["skipped"]
    assert skipped["reason"] == "1 of 3 shards are there"


@pytest.mark.parametrize("command", ["list", "discover"])
def test_issue_12_a_folder_that_does_not_exist_is_a_warning_and_no_error(
    shimmy, home, tmp_path, monkeypatch, command
):
    file = gguf.write(tmp_path / "there" / "m.gguf")
    result = shimmy(command, "--short", "--model-dirs", f"/nowhere;{file};{file.parent}")
    assert result.exit_code == 0
    assert "m" in result.stdout.split()
    assert result.stderr.splitlines() == [
        "warning: --model-dirs: /nowhere does not exist",
        f"warning: --model-dirs: {file} is a file: name its folder",
    ]
    monkeypatch.setenv("SHIMMY_MODEL_PATHS", "/nowhere")
    said = "warning: SHIMMY_MODEL_PATHS: /nowhere does not exist\n"
    assert shimmy(command, "--json").stderr == said
    assert shimmy(command, "--model-dirs", str(file.parent)).stderr == ""
    monkeypatch.delenv("SHIMMY_MODEL_PATHS")
    assert shimmy(command).stderr == "", "the usual places need not be there"
    config = home / "shimmy.toml"
    config.write_text('[models]\ndirs = ["/nowhere"]\n')
    result = shimmy("--config", config, command)
    assert result.stderr == f"warning: {config}: /nowhere does not exist\n"
    if command == "discover":
        assert "/nowhere (no such folder)" in result.stdout


def test_what_may_not_be_looked_at_is_one_sentence(shimmy, shared, monkeypatch):
    path = gguf.write(shared / "closed" / "models" / "m.gguf")
    path.parent.parent.chmod(0)
    for name in ("HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(shared))
    monkeypatch.chdir(shared)
    with nobody():
        listed = shimmy("discover", "--model-dirs", path.parent)
        inspected = shimmy("inspect", path)
        monkeypatch.setenv("SHIMMY_BASE_GGUF", str(path))
        based = shimmy("list")
    assert (listed.exit_code, listed.stderr) == (0, "")
    assert f"{path.parent} (cannot be read: Permission denied)" in listed.stdout
    for result in (inspected, based):
        assert result.exit_code == 1
        assert result.stderr == (
            f"error: model file {path} cannot be read: Permission denied; check the path\n"
        )
