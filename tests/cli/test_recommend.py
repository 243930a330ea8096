from __future__ import annotations

import json

import pytest

from tests.models import gguf


def names(result) -> list[str]:
    return [model["pull"] for model in json.loads(result.stdout)["models"]]


def test_what_fits_the_gpu_comes_first_and_the_largest_of_it(shimmy):
    result = shimmy("recommend", "--vram", "8GB", "--ram", "32GB", "--use", "chat", "--json")
    models = json.loads(result.stdout)["models"]
    fits = [model["fit"] for model in models]
    assert fits == sorted(fits)
    on_gpu = [model["model"]["n_params"] for model in models if model["fit"] == "gpu"]
    assert on_gpu == sorted(on_gpu, reverse=True)
    assert all(m["need"] + 2**30 <= 8e9 for m in models if m["fit"] == "gpu")
    assert all(m["need"] + 2**30 <= 32e9 for m in models)


def test_what_a_model_is_for_decides(shimmy):
    result = shimmy("recommend", "--vram", "0", "--ram", "16GB", "--use", "embedding", "--json")
    assert names(result)
    assert all("embed" in name for name in names(result))


def test_json_says_where_a_figure_is_from_and_when_it_was_checked(shimmy):
    result = shimmy("recommend", "--vram", "0", "--ram", "100MB", "--all", "--json")
    models = [one["model"] for one in json.loads(result.stdout)["models"]]
    assert all(model["source"].startswith("https://") for model in models)
    assert all(model["checked"] is None or model["checked"] >= model["as_of"] for model in models)


def test_nothing_that_fits_is_said(shimmy):
    result = shimmy("recommend", "--vram", "0", "--ram", "100MB")
    assert "nothing of the catalogue fits" in result.stdout


def test_all_shows_what_does_not_fit(shimmy):
    result = shimmy("recommend", "--vram", "0", "--ram", "100MB", "--all")
    line = next(line for line in result.stdout.splitlines() if line.startswith("gpt-oss-120b"))
    assert "  no  " in line


def test_what_is_on_disk_already_is_named(shimmy, home):
    gguf.write(home / "models" / "Qwen3-4B-Q6_K.gguf", "qwen3")
    result = shimmy("recommend", "--vram", "0", "--ram", "16GB", "--json")
    there = {m["pull"]: m["on_disk"] for m in json.loads(result.stdout)["models"] if m["on_disk"]}
    assert there == {"qwen3-4b:Q4_K_M": ["Qwen3-4B-Q6_K"]}


def test_without_flags_the_machine_is_asked(shimmy):
    result = shimmy("recommend", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["machine"]["ram"] > 0


@pytest.mark.parametrize("flag", [["--vram", "much"], ["--use", "war"], ["-c", "0"]])
def test_a_flag_that_cannot_be_is_a_usage_error(shimmy, flag):
    assert shimmy("recommend", *flag).exit_code == 2


@pytest.mark.parametrize("flag", ["--ram", "--vram"])
def test_a_memory_without_a_unit_is_asked_for_one(shimmy, flag):
    result = shimmy("recommend", flag, "8")
    assert result.exit_code == 2
    assert "8 bytes are no memory: give a unit, as in 8GB" in result.output
