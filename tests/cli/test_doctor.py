"""What `shimmy doctor` makes of machines that are made up, and of this one."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from shimmy.engine.diagnosis import Finding, diagnose
from shimmy.engine.machine import Card, Machine, Node, look
from shimmy.engine.types.info import BackendChoice, BackendInfo, DeviceInfo, SystemInfo

CPU = DeviceInfo(
    name="CPU", description="Some CPU", backend="CPU", kind="cpu", memory_free=16 * 10**9,
    memory_total=32 * 10**9,
)  # fmt: skip
GPU = DeviceInfo(
    name="CUDA0", description="NVIDIA H200", backend="CUDA", kind="gpu", memory_free=8 * 10**9,
    memory_total=10 * 10**9,
)  # fmt: skip
NVIDIA = Card(address="0000:01:00.0", vendor="NVIDIA", device="0x2335", driver="nvidia")
NODE = Node(path="/dev/nvidia0", group="root", accessible=True)
LOADED = BackendInfo(name="CUDA", devices=["CUDA0"])


def machine(*cards: Card, nodes: tuple[Node, ...] = (NODE,)) -> Machine:
    return Machine(cards=list(cards), nodes=list(nodes) if cards else [])


def system(*backends: BackendInfo, devices: tuple[DeviceInfo, ...] = ()) -> SystemInfo:
    gpus = [one.name for one in devices]
    return SystemInfo(
        llama_cpp="b10605",
        backends=[BackendInfo(name="CPU", devices=["CPU"]), *backends],
        devices=[*devices, CPU],
        choices=[BackendChoice(backend="auto", devices=gpus)],
    )


def problems(findings: list[Finding]) -> list[Finding]:
    found = [finding for finding in findings if finding.level == "problem"]
    assert all(finding.fix for finding in found), "a problem without a way out"
    return found


def test_a_gpu_that_is_used_is_no_problem() -> None:
    findings = diagnose(machine(NVIDIA), system(LOADED, devices=(GPU,)))
    assert problems(findings) == []
    assert findings[0].text == "usable: CUDA0 (NVIDIA H200)"


def test_a_build_without_the_cards_backend_says_how_to_build_it() -> None:
    [problem] = problems(diagnose(machine(NVIDIA), system()))
    assert problem.subject == "NVIDIA"
    assert problem.fix == "pip install . -C cmake.define.GGML_CUDA=ON"


@pytest.mark.parametrize(
    ("name", "reason", "fix"),
    [
        ("cuda", "libcuda.so.1: cannot open shared object file", "nvidia-driver"),
        ("cuda", "libcudart.so.13: cannot open shared object file", "nvidia-cuda-runtime"),
        ("cuda", "libcublas.so.13: cannot open shared object file", "nvidia-cublas"),
        ("vulkan", "libvulkan.so.1: cannot open shared object file", "mesa-vulkan-drivers"),
        ("opencl", "libOpenCL.so.1: cannot open shared object file", "ocl-icd-libopencl1"),
        ("hip", "libamdhip64.so.6: cannot open shared object file", "rocm.docs.amd.com"),
        ("cuda", "it crashed (SIGSEGV) when it was tried; --retry-backends tries it again", "gpu-info --retry-backends"),
    ],
)  # fmt: skip
def test_a_module_that_did_not_load_names_the_package(name: str, reason: str, fix: str) -> None:
    module = BackendInfo(name=name, loaded=False, problem=reason)
    [problem] = problems(diagnose(machine(), system(module)))
    assert reason in problem.text
    assert fix in (problem.fix or "")


def test_a_driver_that_is_too_old_is_told_apart() -> None:
    note = "ggml_cuda_init: CUDA driver version is insufficient for CUDA runtime version"
    [problem] = problems(diagnose(machine(), system(BackendInfo(name="CUDA", note=note))))
    assert "found no device" in problem.text
    assert "install or update NVIDIA's driver" in (problem.fix or "")


def test_a_variant_that_is_not_needed_is_no_problem() -> None:
    slow = BackendInfo(name="cpu-sse42", loaded=False, problem="another variant suits better")
    assert problems(diagnose(machine(), system(slow))) == []


def test_a_device_file_that_may_not_be_opened_names_the_group() -> None:
    closed = Node(path="/dev/dri/renderD128", group="render", accessible=False)
    [problem] = problems(
        diagnose(machine(NVIDIA, nodes=(NODE, closed)), system(LOADED, devices=(GPU,)))
    )
    assert problem.subject == "/dev/dri/renderD128"
    assert problem.fix == "sudo usermod -aG render $USER, then log in again"


def test_a_card_without_its_driver_or_its_device_file() -> None:
    bare = Card(address="0000:01:00.0", vendor="NVIDIA", device="0x2335")
    found = problems(diagnose(machine(bare, nodes=()), system(LOADED)))
    assert {problem.text.partition(":")[0] for problem in found} == {
        "no kernel driver is bound to the card",
        "it is not there",
    }
    nouveau = Card(address="0000:01:00.0", vendor="NVIDIA", device="0x2335", driver="nouveau")
    [problem] = problems(diagnose(machine(nouveau), system(LOADED)))
    assert "nouveau" in problem.text


def test_a_device_that_computes_wrongly_is_a_problem_and_slow_attention_a_note() -> None:
    wrong = DeviceInfo(
        name="Vulkan0", description="x", backend="Vulkan", kind="gpu", memory_free=1,
        memory_total=1, problem="a matrix product is wrong",
    )  # fmt: skip
    backend = BackendInfo(name="Vulkan", devices=["Vulkan0"], flash_attn="it crashed (SIGSEGV)")
    findings = diagnose(machine(), system(backend, devices=(wrong,)))
    [problem] = problems(findings)
    assert "a matrix product is wrong" in problem.text
    assert any("flash attention" in one.text for one in findings if one.level == "note")
    assert not any(one.level == "ok" for one in findings)


def test_a_model_that_does_not_fit_says_which_flags_help() -> None:
    there = system(LOADED, devices=(GPU,))
    assert problems(diagnose(machine(NVIDIA), there, model_bytes=7 * 10**9)) == []
    [problem] = problems(diagnose(machine(NVIDIA), there, model_bytes=12 * 10**9))
    assert "12.0 GB of weights, 8.0 GB free on CUDA0" in problem.text
    assert "--n-cpu-moe" in (problem.fix or "")
    [problem] = problems(diagnose(machine(), system(), model_bytes=17 * 10**9))
    assert "16.0 GB free on host memory" in problem.text


def test_the_machine_is_read_from_sys_dev_and_proc(tmp_path: Path) -> None:
    def card(address: str, kind: str, vendor: str, driver: str | None) -> None:
        folder = tmp_path / "sys/bus/pci/devices" / address
        folder.mkdir(parents=True)
        for name, text in (("class", kind), ("vendor", vendor), ("device", "0x2335")):
            (folder / name).write_text(text + "\n")
        if driver is not None:
            (tmp_path / "drivers" / driver).mkdir(parents=True)
            (folder / "driver").symlink_to(tmp_path / "drivers" / driver)

    card("0000:01:00.0", "0x030200", "0x10de", "nvidia")
    card("0000:02:00.0", "0x030000", "0x1002", None)
    card("0000:03:00.0", "0x030000", "0x1234", "bochs-drm")  # emulated
    card("0000:04:00.0", "0x020000", "0x8086", "e1000")  # no graphics
    (tmp_path / "dev/dri").mkdir(parents=True)
    (tmp_path / "dev/dri/renderD128").touch()
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    text = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27 2025\n"
    (tmp_path / "proc/driver/nvidia/version").write_text(text)

    found = look(tmp_path)
    assert [(one.vendor, one.driver) for one in found.cards] == [
        ("NVIDIA", "nvidia"),
        ("AMD", None),
    ]
    assert [one.path for one in found.nodes] == ["/dev/dri/renderD128"]
    assert found.nodes[0].accessible
    assert found.nvidia_driver == "580.65.06"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
def test_a_file_of_others_is_not_accessible(tmp_path: Path) -> None:
    (tmp_path / "dev/dri").mkdir(parents=True)
    node = tmp_path / "dev/dri/renderD128"
    node.touch(mode=0)
    assert look(tmp_path).nodes[0].accessible is False


def test_a_machine_that_shows_nothing_has_nothing(tmp_path: Path) -> None:
    assert look(tmp_path) == Machine(cards=[], nodes=[])


def test_this_machine_gets_a_report(shimmy, tiny) -> None:
    result = shimmy("doctor", tiny)
    assert result.stdout.startswith("shimmy: ")
    assert "llama_cpp: b10605" in result.stdout
    assert "the weights fit" in result.stdout


def test_the_report_is_json_too_and_the_exit_code_tells_of_problems(shimmy) -> None:
    result = shimmy("doctor", "--json")
    report = json.loads(result.stdout)
    assert set(report) == {"about", "findings", "machine", "system"}
    found = any(finding["level"] == "problem" for finding in report["findings"])
    assert result.exit_code == int(found)


def test_a_model_that_is_unknown_is_an_error(shimmy) -> None:
    assert shimmy("doctor", "nothing").exit_code == 1
