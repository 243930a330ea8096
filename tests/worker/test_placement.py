"""Which devices a load gets, on machines that are made up."""

from __future__ import annotations

from pathlib import Path

import pytest

from shimmy.engine.types.options import EngineOptions
from shimmy.errors import ConfigError
from shimmy.llama import backend
from shimmy.llama.backend import Device, DeviceCaps, DeviceType
from shimmy.llama.loader import BackendModule
from shimmy.worker import placement

CAPS = DeviceCaps(
    async_compute=True, host_buffer=True, buffer_from_host_ptr=True, events=True, mmap_support=True
)


def device(name: str, kind: str = "gpu", problem: str | None = None) -> Device:
    family = name.rstrip("0123456789")
    return Device(
        name=name, description=name, type=DeviceType(kind), backend=family, buffer_type=name,
        memory_free=1, memory_total=2, device_id=None, caps=CAPS, problem=problem,
    )  # fmt: skip


@pytest.fixture
def machine(monkeypatch):
    """Put devices and modules into place of this machine's."""

    def have(*devices: Device, modules: tuple[BackendModule, ...] = (), **no_flash_attn: str):
        there = (*devices, device("CPU", "cpu"))
        monkeypatch.setattr(backend, "devices", lambda: there)
        monkeypatch.setattr(backend, "modules", lambda: modules)
        monkeypatch.setattr(backend, "no_flash_attn", no_flash_attn.get)

    return have


def choose(**options) -> placement.Placement:
    return placement.choose(EngineOptions(model_path="x", **options))


def module(name: str, *, reason: str | None = None, said: str = "") -> BackendModule:
    return BackendModule(
        name=name, file=Path(name), loaded=reason is None, reason=reason, said=said
    )


def test_issue_126_and_142_auto_takes_all_gpus_of_the_best_backend(machine) -> None:
    """Detected from the device list before the model is loaded, with no other word."""
    machine(device("Vulkan0"), device("CUDA0"), device("CUDA1"))
    assert choose() == placement.Placement(backend="cuda", devices=("CUDA0", "CUDA1"))


def test_auto_without_a_gpu_is_the_cpu(machine) -> None:
    machine(modules=(module("rpc"), module("vulkan")))
    assert choose() == placement.Placement(backend="cpu", devices=())


def test_a_gpu_in_the_cpus_package_counts_where_there_is_no_other(machine) -> None:
    machine(device("Vulkan0", "igpu"), device("Vulkan1"))
    assert choose().devices == ("Vulkan1",)
    machine(device("Vulkan0", "igpu"))
    assert choose().devices == ("Vulkan0",)


def test_rpc_devices_come_first_and_cpu_means_none_at_all(machine) -> None:
    machine(device("RPC0"), device("Vulkan0"))
    assert choose().devices == ("RPC0", "Vulkan0")
    assert choose(gpu_backend="cpu").devices == ()
    machine(device("RPC0"))
    assert choose() == placement.Placement(backend="rpc", devices=("RPC0",))


def test_rpc_devices_do_not_count_as_the_backend_that_was_asked_for(machine) -> None:
    """llama_supports_gpu_offload would say yes: RPC is compiled in."""
    machine(device("RPC0"))
    with pytest.raises(ConfigError, match="this build has no cuda backend"):
        choose(gpu_backend="cuda")


@pytest.mark.parametrize(
    ("flag", "name"),
    [("cuda", "CUDA0"), ("hip", "ROCm0"), ("metal", "MTL0"), ("vulkan", "Vulkan0"), ("opencl", "OpenCL0"), ("sycl", "SYCL0")],
)  # fmt: skip
def test_ggmls_own_backend_names_are_known(machine, flag: str, name: str) -> None:
    machine(device(name))
    assert choose(gpu_backend=flag.upper()) == placement.Placement(backend=flag, devices=(name,))


def test_a_forced_backend_that_is_not_there_says_why(machine) -> None:
    machine(modules=(module("vulkan", reason="libvulkan.so.1: cannot open shared object file"),))
    with pytest.raises(ConfigError, match="did not load: libvulkan") as caught:
        choose(gpu_backend="vulkan")
    assert caught.value.param == "--gpu-backend"
    said = (
        "ggml_cuda_init: failed to initialize CUDA: no CUDA-capable device is detected\nloaded CUDA"
    )
    machine(modules=(module("cuda", said=said),))
    with pytest.raises(ConfigError, match=r"found no device: .*no CUDA-capable device is detected"):
        choose(gpu_backend="cuda")
    machine()
    with pytest.raises(ConfigError, match=r"cmake.define.GGML_HIP=ON"):
        choose(gpu_backend="hip")


def test_the_fallback_is_the_cpu_and_says_so(machine) -> None:
    machine()
    chosen = choose(gpu_backend="cuda", gpu_fallback=True)
    assert chosen.devices == ()
    assert "this build has no cuda backend" in (chosen.note or "")


def test_a_device_that_failed_its_trial_is_not_used(machine) -> None:
    machine(device("Vulkan0", problem="wrong"), device("Vulkan1"))
    assert choose().devices == ("Vulkan1",)
    machine(device("Vulkan0", problem="a product is wrong"))
    assert choose().devices == ()
    with pytest.raises(ConfigError, match="Vulkan0 failed its trial: a product is wrong"):
        choose(gpu_backend="vulkan")


def test_devices_by_name_in_any_case(machine) -> None:
    machine(device("CUDA0"), device("CUDA1"), device("Vulkan0"))
    assert choose(devices=["cuda1"]) == placement.Placement(backend="cuda", devices=("CUDA1",))
    assert choose(devices=["none"]).devices == ()
    with pytest.raises(ConfigError, match="no 'CUDA7'; devices: CUDA0, CUDA1, Vulkan0") as caught:
        choose(devices=["CUDA0", "CUDA7"])
    assert caught.value.param == "--device"


def test_a_name_that_is_no_backend_lists_those_there_are(machine) -> None:
    machine()
    with pytest.raises(ConfigError, match="'voodoo' is not one of auto, cpu, cuda"):
        choose(gpu_backend="voodoo")


def test_flash_attention_is_off_where_it_failed(machine) -> None:
    machine(device("Vulkan0"), Vulkan="it crashed (SIGSEGV)")
    value, reason = placement.flash_attn(EngineOptions(model_path="x"), ["Vulkan0"])
    assert value == "off"
    assert "it crashed (SIGSEGV)" in (reason or "")
    options = EngineOptions(model_path="x", flash_attn="on")
    with pytest.raises(ConfigError, match=r"--flash-attn on: .*tried on Vulkan"):
        placement.flash_attn(options, ["Vulkan0"])
    assert placement.flash_attn(options, []) == ("on", None)
    off = EngineOptions(model_path="x", flash_attn="off")
    assert placement.flash_attn(off, ["Vulkan0"]) == ("off", None)
