"""What the device flags become, on every command that has them."""

from __future__ import annotations

import pytest

from shimmy.cli.commands import probe
from shimmy.errors import BackendError


@pytest.fixture
def loaded(shimmy, monkeypatch, tiny):
    """Run `probe` up to the load; return the options it would load with."""

    def run(*args):
        seen = []

        async def instead(options):
            seen.append(options)
            raise BackendError("not here")

        monkeypatch.setattr(probe, "_load", instead)
        result = shimmy("probe", tiny, *args)
        assert seen, result.stderr
        return seen[0]

    return run


@pytest.mark.parametrize(
    ("args", "field", "value"),
    [
        (["--device", "CUDA0,Vulkan1"], "devices", ["CUDA0", "Vulkan1"]),
        (["-dev", "none"], "devices", ["none"]),
        (["--split-mode", "row"], "split_mode", "row"),
        (["-sm", "none"], "split_mode", "none"),
        (["--tensor-split", "3,1"], "tensor_split", [3.0, 1.0]),
        (["-ts", "0.5,0.5"], "tensor_split", [0.5, 0.5]),
        (["--main-gpu", "1"], "main_gpu", 1),
        (["-mg", "0"], "main_gpu", 0),
        ([], "offload_kqv", True),
        (["-nkvo"], "offload_kqv", False),
        (["--no-kv-offload"], "offload_kqv", False),
        ([], "op_offload", True),
        (["--no-op-offload"], "op_offload", False),
        ([], "load_mode", None),
        (["--load-mode", "mmap+mlock"], "load_mode", "mmap+mlock"),
        (["-lm", "none"], "load_mode", "none"),
        ([], "repack", None),
        (["--no-repack"], "repack", False),
        (["-nr"], "repack", False),
        (["--repack"], "repack", True),
        ([], "gpu_fallback", False),
        (["--gpu-fallback"], "gpu_fallback", True),
        ([], "retry_backends", False),
        (["--retry-backends"], "retry_backends", True),
        (["--gpu-backend", "Vulkan"], "gpu_backend", "vulkan"),
        ([], "gpu_backend", "auto"),
    ],
)
def test_issue_72_device_flags_reach_the_load(loaded, args, field, value):
    """The original parsed --gpu-backend and dropped it."""
    assert getattr(loaded(*args), field) == value


def test_issue_142_the_variable_chooses_before_anything_native_starts(loaded, monkeypatch):
    monkeypatch.setenv("SHIMMY_GPU_BACKEND", "opencl")
    assert loaded().gpu_backend == "opencl"
    assert loaded("--gpu-backend", "cpu").gpu_backend == "cpu"


@pytest.mark.parametrize("name", ["serve", "generate", "probe", "bench"])
def test_every_command_that_loads_has_them(shimmy, name):
    text = shimmy(name, "--help").stdout
    for flag in ("--gpu-backend", "--device", "--gpu-fallback", "--retry-backends", "-nkvo",
                 "--no-op-offload", "--split-mode", "--tensor-split", "--main-gpu", "--cpu-moe",
                 "--n-cpu-moe", "--override-tensor"):  # fmt: skip
        assert flag in text


@pytest.mark.parametrize("name", ["generate", "bench", "probe"])
def test_issue_72_a_forced_backend_that_is_not_there_is_an_error(shimmy, tiny, name):
    """On the commands that load at once; this build has no MUSA."""
    prompt = ["--prompt", "x"] if name == "generate" else []
    result = shimmy(name, tiny, *prompt, "--gpu-backend", "musa", "-t", "1")
    assert result.exit_code != 0
    assert "--gpu-backend musa: this build has no musa backend" in result.stderr
