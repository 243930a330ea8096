from __future__ import annotations

import json

import pytest

from tests.models import gguf
from tests.support import tiny_gguf


def figures(text: str) -> dict[str, str]:
    pairs = (line.split("  ", 1) for line in text.splitlines() if "  " in line)
    return {label: value.strip() for label, value in pairs}


def test_a_file_is_shown_with_its_facts(shimmy, tmp_path):
    path = tiny_gguf.write_model(tmp_path / "tiny.gguf", n_expert=4)
    result = shimmy("inspect", path)
    assert result.exit_code == 0
    shown = figures(result.stdout)
    assert shown["path"] == str(path)
    assert shown["name"] == "tiny-llama"
    assert shown["kind"] == "llm"
    assert shown["quantisation"] == "F16"
    assert shown["experts"] == "4, 2 at a time"
    assert shown["context"] == "2,048 tokens"
    assert shown["chat template"] == "yes"
    assert shown["vocabulary"].startswith("380 tokens")
    assert "TENSOR" not in result.stdout


def test_a_model_is_found_by_name(shimmy, home):
    path = gguf.write(home / "models" / "m.gguf")
    assert figures(shimmy("inspect", "m").stdout)["path"] == str(path)
    assert "built-in demo model" in shimmy("inspect", "shimmy-demo").stdout


def test_the_table_of_tensors_is_there_on_request(shimmy, tmp_path):
    path = gguf.write(tmp_path / "m.gguf", tensors=(("a", (256, 4), 12), ("b", (32,), 0)))
    lines = shimmy("inspect", path, "--tensors").stdout.splitlines()
    assert lines[-2].split() == ["a", "Q4_K", "256", "x", "4", "576", "B"]
    assert lines[-1].split() == ["b", "F32", "32", "128", "B"]


def test_json_has_all_metadata_and_says_what_was_too_long(shimmy, tmp_path):
    fields = {
        "tokenizer.ggml.tokens": ["x"] * 2000,
        "general.tags": ["a", "b"],
        "x.nan": float("nan"),
    }
    path = gguf.write(tmp_path / "m.gguf", "qwen3", fields=fields)
    data = json.loads(shimmy("inspect", path, "--json").stdout)
    assert data["facts"]["architecture"] == "qwen3"
    assert data["metadata"]["general.tags"] == ["a", "b"]
    assert data["metadata"]["tokenizer.ggml.tokens"] == {
        "omitted": "array of string",
        "n_items": 2000,
    }
    assert data["metadata"]["x.nan"] is None
    assert data["tensor_types"] == {"F32": 1}
    assert data["files"] == [{"path": str(path), "size": path.stat().st_size, "n_tensors": 1}]
    assert "tensors" not in data
    tensors = json.loads(shimmy("inspect", path, "--json", "--tensors").stdout)["tensors"]
    assert tensors == [
        {
            "name": "token_embd.weight",
            "type": "F32",
            "shape": [32],
            "offset": 0,
            "size": 128,
            "file": 0,
        }
    ]


def test_all_shards_are_looked_into(shimmy, tmp_path):
    paths = tiny_gguf.write_splits(tmp_path)
    data = json.loads(shimmy("inspect", paths[1], "--json", "--tensors").stdout)
    assert [file["path"] for file in data["files"]] == [str(path) for path in paths]
    assert {tensor["file"] for tensor in data["tensors"]} == {0, 1}
    assert f"in {len(paths)} files" in shimmy("inspect", paths[0]).stdout


def test_what_cannot_be_loaded_is_shown_with_the_reason(shimmy, tmp_path):
    path = gguf.write_lora(tmp_path / "l.gguf")
    shown = figures(shimmy("inspect", path).stdout)
    assert shown["kind"] == "adapter"
    assert "--lora" in shown["cannot be loaded"]
    broken = gguf.write(tmp_path / "m.gguf", fields={"llama.block_count": 0})
    assert "block_count is 0" in shimmy("inspect", broken).stdout


@pytest.mark.parametrize("content", [b"no", b"GGUF", gguf.header(version=9)])
def test_a_file_that_cannot_be_read_is_exit_1_with_the_reason(shimmy, tmp_path, content):
    (tmp_path / "m.gguf").write_bytes(content)
    result = shimmy("inspect", tmp_path / "m.gguf")
    assert (result.exit_code, result.stdout) == (1, "")
    assert str(tmp_path / "m.gguf") in result.stderr


def test_an_unknown_name_is_exit_1_with_the_closest(shimmy, home):
    gguf.write(home / "models" / "mistral-7b.gguf")
    result = shimmy("inspect", "mistrall")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Did you mean 'mistral-7b'?" in result.stderr
