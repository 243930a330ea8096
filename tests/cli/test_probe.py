from __future__ import annotations

import json
import subprocess
import sys

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


def test_what_would_abort_llama_cpp_is_refused_before_a_worker_is_asked(shimmy, tmp_path):
    path = gguf.write(tmp_path / "bad.gguf", fields={"llama.block_count": 0})
    result = shimmy("probe", path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "llama.block_count is 0" in result.stderr
    assert "GGML_ASSERT" not in result.stderr


def test_where_the_model_lies_is_said(shimmy, tiny):
    result = shimmy("probe", tiny, "-t", "1", "--gpu-backend", "cpu")
    [line] = [line for line in result.stdout.splitlines() if line.startswith("  on CPU")]
    assert "layers 0-1, the output, weights" in line
    assert "KV cache" in line
    placed = json.loads(shimmy("probe", tiny, "-t", "1", "--json").stdout)["info"]["placement"]
    assert placed[-1]["device"] == "CPU"
    assert placed[-1]["weights"] > 0


def test_issue_108_memory_that_runs_out_names_the_flags_that_help_with_sizes(slow):
    """With a real allocation that fails: the address space is limited."""
    done = subprocess.run(
        ["bash", "-c", 'ulimit -v 6000000; exec "$0" "$@"', sys.executable, "-m", "shimmy",
         "probe", slow, "-t", "1", "-c", "1000000", "--gpu-backend", "cpu"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "failed to allocate" in done.stderr
    assert "what would help" in done.stderr
    assert "half of the context frees" in done.stderr


def test_a_device_that_is_not_there_lists_those_that_are(shimmy, tiny):
    result = shimmy("probe", tiny, "--device", "Voodoo9")
    assert result.exit_code == 2
    assert "--device: there is no 'Voodoo9'" in result.stderr


@pytest.mark.parametrize(
    ("flags", "what"),
    [
        (["-ts", "1,x"], "proportions"),
        (["-ts", "0,0"], "proportions"),
        (["-ts", "inf"], "proportions"),
        (["--device", ","], "gpu-info"),
        (["-sm", "diagonal"], "row"),
        (["-mg", "-1"], "main-gpu"),
        (["--cpu-moe", "--n-cpu-moe", "2"], "--cpu-moe cannot be used with --n-cpu-moe"),
        (["-ot", "blk"], "REGEX=BUFT"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_device_flags_that_cannot_be_are_usage_errors(shimmy, tiny, flags, what):
    result = shimmy("probe", tiny, *flags)
    assert result.exit_code == 2
    assert what in result.stderr


@pytest.mark.parametrize(
    "flags",
    [["-ot", "blk=Voodoo"], ["-ot", "blk.(=CPU"]],
    ids=["buffer", "pattern"],
)
def test_an_override_that_cannot_be_says_why(shimmy, tiny, flags):
    result = shimmy("probe", tiny, *flags)
    assert result.exit_code == 2
    assert "tensor_buft_overrides" in result.stderr or "buffer type" in result.stderr
