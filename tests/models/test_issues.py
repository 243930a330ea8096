"""The Rust shimmy's issues about finding models, by number; and its rules for walking and files.

More of them stand where their subject is: 12 in test_discovery.py and tests/cli/test_listing.py, 51,
101 and 105 in test_places.py, 51, 184 and 198 in test_stores.py, 65 in test_registry.py, 13 in
test_ollama_template.py, 80 in tests/cli/test_listing.py, 147 and 170 in test_discovery.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from shimmy.errors import ConfigError
from shimmy.models.discovery import discover, search_roots
from shimmy.models.entry import ModelEntry
from shimmy.models.registry import Registry, register
from tests.models import gguf
from tests.models.test_stores import hub_file, manifest


def names(registry: Registry) -> list[str]:
    return [entry.name for entry in registry.entries()]


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    for name in ("OLLAMA_MODELS", "HF_HOME", "HF_HUB_CACHE", "XDG_DATA_HOME", "SHIMMY_MODEL_PATHS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    return tmp_path / "home"


def test_issue_12_all_variables_name_folders(home, tmp_path, monkeypatch):
    gguf.write(tmp_path / "one" / "a.gguf")
    manifest(
        tmp_path / "two", "registry.ollama.ai/library/b/latest", {"model": gguf.model("qwen3")}
    )
    monkeypatch.setenv("SHIMMY_MODEL_PATHS", f"{tmp_path / 'one'};/nowhere")
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "two"))
    assert names(Registry(roots=search_roots())) == ["a", "b:latest"]
    gguf.write(tmp_path / "three" / "c.gguf")
    assert names(Registry(roots=search_roots(str(tmp_path / "three")))) == ["c", "b:latest"]


def test_issue_51_all_stores_in_a_home_are_found_without_any_setting(home):
    gguf.write(home / "models" / "mine.gguf")
    gguf.write(home / ".local" / "share" / "shimmy" / "models" / "data.gguf")
    gguf.write(home / ".lmstudio" / "models" / "publisher" / "repo" / "studio.gguf")
    gguf.write(home / ".cache" / "lm-studio" / "models" / "old-studio.gguf")
    gguf.write(home / ".cache" / "llama.cpp" / "cached.gguf")
    hub_file(home / ".cache" / "huggingface" / "hub", "org/repo", "hub.gguf", gguf.model("gemma3"))
    manifest(
        home / ".ollama" / "models",
        "registry.ollama.ai/library/qwen3/14b",
        {"model": gguf.model("qwen3")},
    )
    assert names(Registry(roots=search_roots())) == [
        "mine",
        "data",
        "hub",
        "qwen3:14b",
        "studio",
        "old-studio",
        "cached",
    ]


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "llama.ggml"])
def test_issue_112_other_formats_are_no_models_and_say_so_when_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    assert discover([tmp_path]).models == []
    with pytest.raises(ConfigError, match="not a GGUF model file; convert it first"):
        register(tmp_path / name)


def test_issue_147_single_files_beside_shards_are_kept(tmp_path):
    for number in range(2):
        fields = {"split.no": (2, number), "split.count": (2, 2)}
        gguf.write(tmp_path / f"big-{number + 1:05}-of-00002.gguf", fields=fields)
    gguf.write(tmp_path / "big.gguf")
    gguf.write(tmp_path / "small.gguf")
    assert names(Registry(roots=[tmp_path])) == ["big", "big@" + tmp_path.name, "small"]


def test_issue_166_a_request_without_a_model_gets_the_default(tmp_path):
    gguf.write(tmp_path / "m.gguf")
    assert Registry(roots=[tmp_path], alias="gpt-4").resolve(None).name == "m"
    assert Registry(roots=[tmp_path], alias="gpt-4").resolve("gpt-4").name == "m"


def test_issue_170_a_split_model_has_a_path_that_can_be_opened(tmp_path):
    for number in (2, 1):
        fields = {"split.no": (2, number - 1), "split.count": (2, 2)}
        gguf.write(tmp_path / f"big-{number:05}-of-00002.gguf", fields=fields)
    (entry,) = Registry(roots=[tmp_path]).entries()
    assert entry.name == "big"
    assert Path(entry.path).name == "big-00001-of-00002.gguf"
    assert Path(entry.path).is_file()


def test_issue_182_the_context_is_the_headers(tmp_path):
    gguf.write(tmp_path / "m.gguf", "qwen3", fields={"qwen3.context_length": 40_960})
    assert Registry(roots=[tmp_path]).resolve("m").n_ctx_train == 40_960


def test_issue_184_the_folder_of_xdg_is_searched_and_the_embedded_template_seen(home, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "xdg"))
    fields = {"tokenizer.chat_template": "{{ messages }}"}
    gguf.write(home / "xdg" / "shimmy" / "models" / "m.gguf", fields=fields)
    entry = Registry(roots=search_roots()).resolve("m")
    assert (entry.has_template, entry.chat_template) == (True, None)


def test_issue_200_nothing_is_listed_that_is_not_there(home):
    assert names(Registry(roots=search_roots())) == []


@pytest.mark.parametrize(
    "folder",
    ["whisper", "bert", "clip", "wav2vec", "Library", "usr", "var", "tmp", "bin", "target", "home"],
)
def test_no_folder_is_skipped_for_its_name(tmp_path, folder):
    gguf.write(tmp_path / folder / "m.gguf")
    assert names(Registry(roots=[tmp_path])) == ["m"]
    assert names(Registry(roots=[tmp_path / folder])) == ["m"]


@pytest.mark.parametrize("name", ["lora-llama", "adapter", "llama-clip-vision-embedding", "sd-xl"])
def test_no_file_is_taken_for_something_for_its_name(tmp_path, name):
    gguf.write(tmp_path / f"{name}.gguf")
    assert names(Registry(roots=[tmp_path])) == [name]
    assert Registry(roots=[tmp_path]).entries()[0].kind == "llm"


def test_upper_case_endings_do_no_harm(tmp_path):
    gguf.write(tmp_path / "M.GGUF")
    assert names(Registry(roots=[tmp_path])) == ["M"]


@pytest.mark.parametrize(
    ("n_params", "shown"), [(13_000_000_000, "13.0B"), (596_049_920, "596.0M")]
)
def test_parameters_are_counted_not_guessed_from_the_name(tmp_path, n_params, shown):
    from shimmy.cli.listing import counted

    rows = n_params // 32
    path = gguf.write(tmp_path / "llama-3b.gguf", tensors=())
    path.write_bytes(
        gguf.header(
            ("general.architecture", "llama"),
            ("llama.block_count", 1),
            tensors=(("w", (32, rows), 2),),
        )
    )
    entry: ModelEntry = register(path)
    assert counted(entry.n_params) == shown
    assert "cut short" in (entry.objection or ""), "a header without its tensors"
