from __future__ import annotations

import json

import pytest

from tests.models import gguf


def test_a_model_that_loads_is_ok_with_its_figures(shimmy, tiny):
    result = shimmy("probe", tiny, "-t", "1", "-c", "512")
    assert result.exit_code == 0
    assert result.stdout.startswith("ok: loaded tiny\n")
    assert "512 tokens (trained on 2,048)" in result.stdout
    assert "106,560" in result.stdout


def test_a_model_is_found_by_name(shimmy, tiny):
    result = shimmy("probe", "tiny", "--model-dirs", tiny.parent, "-t", "1", "--json")
    data = json.loads(result.stdout)
    assert data["ok"] is True
    assert data["model"]["source"] == "discovered"
    assert data["info"]["n_params"] == 106_560


def test_an_unknown_name_is_exit_1(shimmy):
    result = shimmy("probe", "nothing")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("no model nothing")


def test_a_path_that_does_not_exist_is_exit_1(shimmy, tmp_path):
    result = shimmy("probe", tmp_path / "none.gguf")
    assert result.exit_code == 1


def test_a_file_that_is_no_model_is_exit_1(shimmy, tmp_path):
    (tmp_path / "a.gguf").write_text("no")
    result = shimmy("probe", tmp_path / "a.gguf")
    assert result.exit_code == 1
    assert "not a GGUF model file" in result.stderr


def test_a_model_that_does_not_load_is_exit_2_and_says_why(shimmy, broken):
    result = shimmy("probe", broken)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("probe failed: ")
    assert "broken.gguf" in result.stderr


def test_a_failed_probe_is_json_too(shimmy, tmp_path):
    path = gguf.write(tmp_path / "empty.gguf", "no-such-architecture")
    result = shimmy("probe", path, "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["ok"] is False


def test_a_name_is_required(shimmy):
    assert shimmy("probe").exit_code == 2


@pytest.mark.parametrize("flag", ["-c", "-t", "-b", "-ub"])
def test_a_count_of_nothing_is_a_usage_error(shimmy, tiny, flag):
    assert shimmy("probe", tiny, flag, "0").exit_code == 2
