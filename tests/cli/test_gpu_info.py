from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from shimmy.config import GPU_BACKENDS
from shimmy.engine.types.info import BackendChoice, BackendInfo, DeviceInfo, SystemInfo
from shimmy.errors import BackendError

CPU = DeviceInfo(
    name="CPU",
    description="Some CPU",
    backend="CPU",
    kind="cpu",
    memory_free=8_000_000_000,
    memory_total=16_000_000_000,
)
CUDA = DeviceInfo(
    name="CUDA0",
    description="NVIDIA H200",
    backend="CUDA",
    kind="gpu",
    memory_free=1,
    memory_total=150_000_000_000,
    driver="580.65.06",
)


def system(
    *backends: BackendInfo,
    devices: list[DeviceInfo] | None = None,
    choices: list[BackendChoice] | None = None,
) -> SystemInfo:
    cpu = BackendInfo(name="CPU", features={"AVX2": "1", "REPACK": "1", "SVE_CNT": "2"})
    return SystemInfo(
        llama_cpp="b10605",
        backends=[cpu, *backends],
        devices=[CPU, *(devices or [])],
        choices=choices or [BackendChoice(backend="auto")],
    )


@pytest.fixture
def report(monkeypatch):
    asked = []

    def give(info: SystemInfo | Exception):
        async def describe(*, retry_backends: bool) -> SystemInfo:
            asked.append(retry_backends)
            if isinstance(info, Exception):
                raise info
            return info

        monkeypatch.setattr("shimmy.engine.describe_system", describe)
        return asked

    return give


def test_backends_devices_memory_and_features_are_shown(shimmy, report):
    report(system(BackendInfo(name="CUDA"), devices=[CUDA]))
    result = shimmy("gpu-info")
    assert result.exit_code == 0
    for text in (
        "b10605",
        "AVX2 REPACK SVE_CNT=2",
        "NVIDIA H200",
        "150.0 GB",
        "580.65",
        "Some CPU",
    ):
        assert text in result.stdout


def test_a_backend_that_did_not_load_says_why(shimmy, report):
    report(system(BackendInfo(name="Vulkan", loaded=False, problem="libvulkan.so.1: no such file")))
    assert "not loaded: libvulkan.so.1: no such file" in shimmy("gpu-info").stdout


def test_one_without_a_device_one_without_flash_attention_and_a_device_that_is_wrong(
    shimmy, report
):
    wrong = DeviceInfo(
        name="Vulkan1", description="Old GPU", backend="Vulkan", kind="gpu", memory_free=1,
        memory_total=2, problem="a matrix product is wrong",
    )  # fmt: skip
    report(
        system(
            BackendInfo(name="OpenCL", note="platform IDs not available"),
            BackendInfo(name="Vulkan", flash_attn="it crashed (SIGSEGV)"),
            devices=[wrong],
        )
    )
    said = shimmy("gpu-info").stdout
    assert "loaded, no device: platform IDs not available" in said
    assert "loaded; flash attention is not used: it crashed (SIGSEGV)" in said
    assert "Old GPU (not used: a matrix product is wrong)" in said


def test_what_each_choice_would_use_is_shown(shimmy, report):
    choices = [
        BackendChoice(backend="auto", devices=["CUDA0"]),
        BackendChoice(backend="cpu"),
        BackendChoice(backend="vulkan", problem="the vulkan backend found no device"),
        BackendChoice(backend="hip", problem="this build has no hip backend; build it with: x"),
    ]
    report(system(choices=choices))
    rows = {
        line.split()[0]: line.split(maxsplit=1)[1]
        for line in shimmy("gpu-info").stdout.split("WOULD USE\n")[1].splitlines()
    }
    assert rows["auto"] == "CUDA0"
    assert rows["cpu"] == "CPU"
    assert "found no device" in rows["vulkan"]
    assert "hip" not in rows


def test_json_is_what_ggml_reports(shimmy, report):
    report(system(BackendInfo(name="CUDA"), devices=[CUDA]))
    data = json.loads(shimmy("gpu-info", "--json").stdout)
    assert data["devices"][1]["description"] == "NVIDIA H200"
    assert data["backends"][0]["features"]["AVX2"] == "1"


@pytest.mark.parametrize("before", [True, False])
def test_a_backend_that_is_not_built_in_is_exit_1_and_how_to_build_it(shimmy, before):
    """This build, asked in earnest: it has no MUSA, whatever else it has."""
    flag = ["--gpu-backend", "Musa"]
    result = shimmy(*flag, "gpu-info") if before else shimmy("gpu-info", *flag)
    assert result.exit_code == 1
    assert "error: this build has no musa backend" in result.stderr
    assert "pip install . -C cmake.define.GGML_MUSA=ON" in result.stderr
    assert "CPU" in result.stdout


@pytest.mark.parametrize("name", ["auto", "cpu"])
def test_auto_and_cpu_are_always_there(shimmy, name):
    assert shimmy("gpu-info", "--gpu-backend", name).exit_code == 0


def test_there_is_an_answer_for_every_choice(shimmy):
    data = json.loads(shimmy("gpu-info", "--json").stdout)
    assert [choice["backend"] for choice in data["choices"]] == list(GPU_BACKENDS)


def test_the_variable_stands_in_for_the_flag(shimmy, monkeypatch):
    monkeypatch.setenv("SHIMMY_GPU_BACKEND", "musa")
    assert shimmy("gpu-info").exit_code == 1
    assert shimmy("gpu-info", "--gpu-backend", "cpu").exit_code == 0


def test_a_variable_that_names_no_backend_lists_those_there_are(shimmy, monkeypatch):
    monkeypatch.setenv("SHIMMY_GPU_BACKEND", "voodoo")
    result = shimmy("gpu-info")
    assert result.exit_code == 1
    assert "SHIMMY_GPU_BACKEND='voodoo'" in result.stderr
    assert "vulkan" in result.stderr


def test_a_flag_that_names_no_backend_is_a_usage_error(shimmy):
    result = shimmy("gpu-info", "--gpu-backend", "voodoo")
    assert result.exit_code == 2
    assert "vulkan" in result.stderr


def test_a_backend_without_its_driver_says_what_to_install(shimmy, report):
    problem = "the cuda backend did not load: libcuda.so.1 not found"
    report(system(choices=[BackendChoice(backend="cuda", problem=problem)]))
    text = shimmy("gpu-info", "--gpu-backend", "cuda").stderr
    assert "libcuda.so.1 not found" in text
    assert "NVIDIA's driver" in text


def test_retry_backends_reaches_the_worker(shimmy, report):
    asked = report(system())
    shimmy("gpu-info")
    shimmy("gpu-info", "--retry-backends")
    assert asked == [False, True]


def test_a_worker_that_dies_of_a_driver_is_one_sentence(shimmy, report):
    report(BackendError("the worker that looks for devices killed by signal SIGSEGV"))
    result = shimmy("gpu-info")
    assert result.exit_code == 1
    assert "SIGSEGV" in result.stderr


def processor_time(*arguments: str) -> float:
    """Return what a Python process took, with its children."""
    before = os.times()
    subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
    after = os.times()
    return sum(
        getattr(after, name) - getattr(before, name)
        for name in ("children_user", "children_system")
    )


def test_it_answers_in_half_a_second(shimmy, home):
    """In processor time, the best of a few; a slow or busy machine is allowed four times what its imports take."""
    shimmy("gpu-info")  # the first one may try backends
    libraries = "import asyncio, click, msgspec, rich.table"
    times = [
        (processor_time("-m", "shimmy", "gpu-info"), processor_time("-c", libraries))
        for _ in range(4)
    ]
    ours, imports = (min(each) for each in zip(*times, strict=True))
    assert ours < max(0.5, 4 * imports)


def test_issue_129_a_build_without_a_gpu_backend_says_how_to_get_one(shimmy):
    """The original's binaries were said to hold all backends, and held none."""
    system = json.loads(shimmy("gpu-info", "--json").stdout)
    loaded = {one["name"].lower() for one in system["backends"] if one["loaded"]}
    choices = {one["backend"]: one for one in system["choices"]}
    assert choices.keys() == set(GPU_BACKENDS)
    for name in ("cuda", "vulkan", "opencl", "hip", "sycl"):
        if not any(name in one for one in loaded):
            option = f"pip install . -C cmake.define.GGML_{name.upper()}=ON"
            assert option in choices[name]["problem"]
            assert not choices[name]["devices"]
