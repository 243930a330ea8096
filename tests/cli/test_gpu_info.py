from __future__ import annotations

import json

import pytest

from shimmy.cli.commands import gpu_info
from shimmy.engine.types.info import BackendInfo, DeviceInfo, SystemInfo
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
)


def system(*backends: BackendInfo, devices: list[DeviceInfo] | None = None) -> SystemInfo:
    cpu = BackendInfo(name="CPU", features={"AVX2": "1", "REPACK": "1", "SVE_CNT": "2"})
    return SystemInfo(
        llama_cpp="b10605", backends=[cpu, *backends], devices=[CPU, *(devices or [])]
    )


@pytest.fixture
def report(monkeypatch):
    def give(info: SystemInfo | Exception):
        async def describe() -> SystemInfo:
            if isinstance(info, Exception):
                raise info
            return info

        monkeypatch.setattr("shimmy.engine.describe_system", describe)

    return give


def test_backends_devices_memory_and_features_are_shown(shimmy, report):
    report(system(BackendInfo(name="CUDA"), devices=[CUDA]))
    result = shimmy("gpu-info")
    assert result.exit_code == 0
    for text in ("b10605", "AVX2 REPACK SVE_CNT=2", "NVIDIA H200", "150.0 GB", "Some CPU"):
        assert text in result.stdout


def test_a_backend_that_did_not_load_says_why(shimmy, report):
    report(system(BackendInfo(name="Vulkan", loaded=False, problem="libvulkan.so.1: no such file")))
    assert "not loaded: libvulkan.so.1: no such file" in shimmy("gpu-info").stdout


def test_json_is_what_ggml_reports(shimmy, report):
    report(system(BackendInfo(name="CUDA"), devices=[CUDA]))
    data = json.loads(shimmy("gpu-info", "--json").stdout)
    assert data["devices"][1]["description"] == "NVIDIA H200"
    assert data["backends"][0]["features"]["AVX2"] == "1"


@pytest.mark.parametrize("before", [True, False])
def test_a_backend_that_is_not_built_in_is_exit_1_and_how_to_build_it(shimmy, report, before):
    report(system())
    flag = ["--gpu-backend", "Vulkan"]
    result = shimmy(*flag, "gpu-info") if before else shimmy("gpu-info", *flag)
    assert result.exit_code == 1
    assert "GGML_VULKAN=ON" in result.stderr
    assert "Some CPU" in result.stdout


@pytest.mark.parametrize("name", ["auto", "cpu"])
def test_auto_and_cpu_are_always_there(shimmy, report, name):
    report(system())
    assert shimmy("gpu-info", "--gpu-backend", name).exit_code == 0


@pytest.mark.parametrize(
    ("flag", "name"),
    [
        ("cuda", "CUDA"),
        ("vulkan", "Vulkan"),
        ("opencl", "OpenCL"),
        ("metal", "MTL"),
        ("hip", "ROCm"),
    ],
)
def test_ggmls_own_backend_names_are_known(flag, name):
    device = DeviceInfo(
        name="x", description="x", backend=name, kind="gpu", memory_free=1, memory_total=1
    )
    assert gpu_info.missing(system(BackendInfo(name=name), devices=[device]), flag) is None
    assert "found no device" in gpu_info.missing(system(BackendInfo(name=name)), flag)
    assert "-C cmake.define.GGML_" in gpu_info.missing(system(), flag)


def test_a_backend_without_its_driver_says_what_to_install():
    info = system(BackendInfo(name="CUDA", loaded=False, problem="libcuda.so.1 not found"))
    text = gpu_info.missing(info, "cuda")
    assert "libcuda.so.1 not found" in text
    assert "install" in text


def test_a_worker_that_dies_of_a_driver_is_one_sentence(shimmy, report):
    report(BackendError("the worker that looks for devices killed by signal SIGSEGV"))
    result = shimmy("gpu-info")
    assert result.exit_code == 1
    assert "SIGSEGV" in result.stderr
