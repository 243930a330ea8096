from __future__ import annotations

import json
import shutil
import sys

import pytest

from tests.models import gguf


def test_the_demo_model_fits_and_says_what_it_takes(shimmy):
    result = shimmy("plan", "shimmy-demo", "--gpu-backend", "cpu")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith("shimmy-demo (built-in demo model)")
    assert lines[1].split() == [
        "DEVICE", "WEIGHTS", "KV", "CACHE", "COMPUTE", "TOGETHER", "FREE", "OF",
    ]  # fmt: skip
    assert lines[2].startswith("CPU ")
    assert "context         8,192 tokens (trained on 2,048)" in lines
    assert lines[-1] == "it fits"


def test_json_has_every_number(shimmy, tiny):
    result = shimmy("plan", tiny, "--gpu-backend", "cpu", "-np", "2", "-ctk", "q8_0", "--json")
    plan = json.loads(result.stdout)["plan"]
    assert plan["n_parallel"] == 2
    assert plan["n_ctx"] == 4096
    assert (plan["cache_type_k"], plan["cache_type_v"]) == ("q8_0", "f16")
    assert plan["problem"] is None
    [cpu] = plan["devices"]
    assert cpu["device"] == "CPU"
    assert all(cpu[name] > 0 for name in ("weights", "kv", "compute", "free", "total"))


def test_a_projectors_file_is_counted_and_shown(shimmy, tiny, home):
    path = shutil.copy(tiny, home)
    eyes = gguf.write_projector(home / "mmproj.gguf", None)
    flags = ["--gpu-backend", "cpu"]
    lines = shimmy("plan", path, *flags).stdout.splitlines()
    assert lines[1].split()[5:7] == ["PROJECTOR", "TOGETHER"]
    assert f"projector       {eyes}" in lines
    plan = json.loads(shimmy("plan", path, *flags, "--json").stdout)["plan"]
    [cpu] = plan["devices"]
    assert (plan["mmproj"], cpu["projector"]) == (str(eyes), eyes.stat().st_size)
    blind = json.loads(shimmy("plan", path, *flags, "--no-mmproj", "--json").stdout)["plan"]
    assert (blind["mmproj"], blind["devices"][0]["projector"]) == (None, 0)


def test_the_figures_are_those_of_the_load(shimmy, tiny):
    flags = ["-c", "1024", "--gpu-backend", "cpu", "--json"]
    planned = json.loads(shimmy("plan", tiny, "-np", "1", *flags).stdout)["plan"]["devices"][0]
    loaded = json.loads(shimmy("probe", tiny, *flags).stdout)["info"]["placement"][0]
    for name in ("weights", "kv", "compute"):
        assert planned[name] == loaded[name]


@pytest.mark.parametrize("command", ["plan", "probe"])
def test_what_cannot_fit_is_refused_with_numbers_and_flags(shimmy, tiny, command):
    result = shimmy(command, tiny, "-c", "1000000000", "--gpu-backend", "cpu")
    assert result.exit_code in {1, 2}
    assert "the model does not fit: CPU has" in result.output
    assert "-c 500000000: half of the context frees" in result.output
    assert "-ctk q8_0" in result.output


def test_a_broken_file_is_one_sentence(shimmy, broken):
    result = shimmy("plan", broken)
    assert result.exit_code == 1
    assert result.stderr.count("error:") == 1


@pytest.mark.parametrize("command", [("plan", "shimmy-demo"), ("gpu-info",), ("recommend",)])
def test_a_worker_that_cannot_be_started_is_one_sentence(shimmy, monkeypatch, tmp_path, command):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    result = shimmy(*command)
    said = result.stderr.strip()
    assert "the worker could not be started: [Errno 2]" in said
    assert len(said.splitlines()) == 1
    assert result.exit_code == (0 if command == ("recommend",) else 1)


def test_an_unknown_name_names_the_closest(shimmy):
    result = shimmy("plan", "shimmy-dem")
    assert result.exit_code == 1
    assert "Did you mean 'shimmy-demo'" in result.stderr
