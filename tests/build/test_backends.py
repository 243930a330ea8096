"""The wheel that ci/backends has built, on a machine without a GPU: Vulkan on lavapipe, the others without a device.

BACKENDS_SHIMMY is the command to test, BACKENDS the backends it was built with.
"""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.tiny_gguf import write_model

COMMAND = os.environ.get("BACKENDS_SHIMMY", "")
BACKENDS = os.environ.get("BACKENDS", "").split()
QUESTION = ["--prompt", "What is shimmy?", "--temperature", "0"]
N_LAYER = 4

# each first use may try a backend, whose driver compiles for a minute
pytestmark = [
    pytest.mark.skipif(not COMMAND, reason="no wheel with backends: ci/backends builds it"),
    pytest.mark.timeout(600),
]
vulkan = pytest.mark.skipif("vulkan" not in BACKENDS, reason="not built: ci/backends vulkan")
opencl = pytest.mark.skipif("opencl" not in BACKENDS, reason="not built: ci/backends opencl")
cuda = pytest.mark.skipif("cuda" not in BACKENDS, reason="not built: ci/backends cuda")

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run the command away from the repository, whose shimmy/ would be imported instead."""

    def call(*args: str | Path, code: int = 0, **environ: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [COMMAND, *map(str, args)],
            capture_output=True, text=True, cwd=tmp_path, env=os.environ | environ, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        return done

    return call


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("moe") / "moe.gguf", n_expert=4, n_layer=N_LAYER)


def system(run: Run, *args: str) -> dict:
    return json.loads(run("gpu-info", "--json", *args).stdout)


def probe(run: Run, *args: str | Path) -> dict:
    return json.loads(run("probe", *args, "--json").stdout)["info"]


def placement(info: dict) -> dict[str, dict]:
    return {one["device"]: one for one in info["placement"]}


def text(run: Run, *args: str | Path) -> str:
    return json.loads(run("generate", *args, "-n", "48", "--json").stdout)["text"]


@contextmanager
def serving(home: Path, **environ: str) -> Iterator[str]:
    """Run the server of the wheel; its address has no trailing slash."""
    process = subprocess.Popen(
        [COMMAND, "serve", "--bind", "127.0.0.1:0"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=home, env=os.environ | environ,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        lines = iter(process.stdout.readline, "")
        yield next("http://" + line.split()[1] for line in lines if line.startswith("listening"))
    finally:
        process.terminate()
        process.communicate(timeout=60)


def fetch(url: str, body: dict | None = None) -> dict:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=300) as reply:
        return json.load(reply)


def answer(url: str) -> str:
    messages = [{"role": "user", "content": "What is shimmy?"}]
    body = {"messages": messages, "temperature": 0, "max_tokens": 8}
    return fetch(url + "/v1/chat/completions", body)["choices"][0]["message"]["content"]


def raw(model: Path) -> list[str | Path]:
    return [model, "--raw", "--prompt", "the quick brown fox", "--temperature", "0"]


@vulkan
def test_issue_129_the_wheel_has_the_gpu_and_gpu_info_lists_it(run: Run) -> None:
    [device] = [one for one in system(run)["devices"] if one["backend"] == "Vulkan"]
    assert "llvmpipe" in device["description"]
    assert device["memory_total"] > 0
    assert "Vulkan0" in run("gpu-info", "--gpu-backend", "vulkan").stdout


@vulkan
def test_issue_72_and_130_vulkan_gets_all_layers_and_says_what_the_cpu_says(run: Run) -> None:
    """The flag reaches the load, and a GPU has all layers, the CPU none."""
    here = probe(run, "shimmy-demo", "--gpu-backend", "vulkan")
    on_gpu = placement(here)["Vulkan0"]
    assert on_gpu["layers"] == list(range(len(on_gpu["layers"])))
    assert on_gpu["output"]
    assert here["n_gpu_layers"] == len(on_gpu["layers"]) + 1
    assert placement(here)["CPU"]["layers"] == []
    assert placement(here)["CPU"]["kv"] == 0
    there = probe(run, "shimmy-demo", "--gpu-backend", "cpu")
    assert there["n_gpu_layers"] == 0
    assert list(placement(there)) == ["CPU"]
    assert text(run, "shimmy-demo", *QUESTION, "--gpu-backend", "vulkan") == text(
        run, "shimmy-demo", *QUESTION, "--gpu-backend", "cpu"
    )


@vulkan
def test_issue_126_auto_takes_the_gpu(run: Run) -> None:
    assert probe(run, "shimmy-demo")["devices"] == ["Vulkan0"]
    assert probe(run, "shimmy-demo", "--device", "none")["devices"] == ["CPU"]


@vulkan
def test_ngl_puts_the_last_layers_on_the_gpu(run: Run) -> None:
    layers = placement(probe(run, "shimmy-demo", "--gpu-backend", "vulkan", "-ngl", "3"))
    n = len(layers["Vulkan0"]["layers"]) + len(layers["CPU"]["layers"])
    assert layers["Vulkan0"]["layers"] == [n - 2, n - 1]  # and the output


@vulkan
def test_the_kv_cache_can_stay_in_host_memory(run: Run) -> None:
    info = probe(run, "shimmy-demo", "--gpu-backend", "vulkan", "-nkvo")
    assert placement(info)["Vulkan0"]["kv"] == 0
    assert placement(info)["CPU"]["kv"] > 0


@vulkan
@pytest.mark.parametrize(
    ("flags", "on_the_cpu"),
    [([], 0), (["--n-cpu-moe", "2"], 2), (["--cpu-moe"], N_LAYER), (["-ot", "blk\\.0.*exps=CPU"], 1)],
    ids=["none", "n-cpu-moe", "cpu-moe", "override-tensor"],
)  # fmt: skip
def test_issue_108_experts_stay_where_they_are_told_to(
    run: Run, mixture: Path, flags: list[str], on_the_cpu: int
) -> None:
    """Exactly those layers' experts are on the CPU, all else on the GPU; the text is the same."""
    where = placement(probe(run, mixture, "--gpu-backend", "vulkan", *flags))
    assert where["Vulkan0"]["layers"] == list(range(N_LAYER))
    assert where["CPU"]["experts"] == list(range(on_the_cpu))
    assert where["Vulkan0"]["experts"] == list(range(on_the_cpu, N_LAYER))
    assert text(run, *raw(mixture), "--gpu-backend", "vulkan", *flags) == text(
        run, *raw(mixture), "--gpu-backend", "cpu"
    )


@vulkan
def test_flash_attention_that_fails_its_first_use_is_not_used(run: Run) -> None:
    """Mesa 22.3's lavapipe crashes with it; where a newer one does not, there is nothing to see."""
    [found] = [one for one in system(run)["backends"] if one["name"] == "Vulkan"]
    if found["flash_attn"] is None:
        pytest.skip("flash attention works on this driver")
    assert "flash attention is off" in probe(run, "shimmy-demo")["notes"][0]
    refused = run("probe", "shimmy-demo", "-fa", "on", code=2)
    assert "flash attention is off: tried on Vulkan" in refused.stderr


@vulkan
def test_an_icd_file_that_points_nowhere_is_no_device(run: Run, tmp_path: Path) -> None:
    icd = tmp_path / "nowhere.json"
    icd.write_text(
        '{"file_format_version": "1.0.0",'
        ' "ICD": {"library_path": "/nowhere/libvulkan_none.so", "api_version": "1.3.0"}}'
    )
    environ = {"VK_ICD_FILENAMES": str(icd), "VK_DRIVER_FILES": str(icd)}
    done = run("gpu-info", "--gpu-backend", "vulkan", code=1, **environ)
    assert "vulkan" in done.stderr
    assert "CPU" in done.stdout
    assert run("generate", *QUESTION, **environ).stdout.strip()
    assert "Vulkan" in run("doctor", code=1, **environ).stdout
    with serving(tmp_path, **environ) as url:
        assert "Shimmy" in answer(url)


@vulkan
def test_issue_111_metrics_show_the_gpu_that_a_model_is_on(tmp_path: Path) -> None:
    with serving(tmp_path) as url:
        assert "Shimmy" in answer(url)
        body = fetch(url + "/metrics?format=json")
        text = urllib.request.urlopen(url + "/metrics").read().decode()
    assert body["gpu_detected"]
    [gpu] = body["gpus"]
    assert gpu["device"] == "Vulkan0"
    assert gpu["memory_total_mb"] >= gpu["memory_free_mb"] > 0
    assert 'shimmy_device_memory_free_bytes{device="Vulkan0"}' in text
    assert "shimmy_gpu_detected 1.0" in text
    row = 'shimmy_model_memory_bytes{device="Vulkan0",model="shimmy-demo",part="kv"} '
    [kv] = [line for line in text.splitlines() if line.startswith(row)]
    assert float(kv.removeprefix(row)) > 0


@opencl
def test_opencl_loads_and_says_that_there_is_no_device(run: Run) -> None:
    [found] = [one for one in system(run)["backends"] if one["name"] == "OpenCL"]
    assert found["loaded"]
    assert found["devices"] == []
    done = run("gpu-info", "--gpu-backend", "opencl", code=1)
    assert "the opencl backend found no device" in done.stderr
    assert run("generate", *QUESTION, "--gpu-backend", "opencl", "--gpu-fallback").stdout.strip()


@cuda
def test_issue_58_and_59_cuda_is_compiled_and_has_no_driver(run: Run) -> None:
    """And a driver that is missing stops neither the import nor the CPU."""
    [found] = [one for one in system(run)["backends"] if one["name"].lower() == "cuda"]
    assert found["problem"] or (found["devices"] == [] and found["note"])
    refused = run("generate", *QUESTION, "--gpu-backend", "cuda", code=1)
    assert "--gpu-backend cuda: the cuda backend" in refused.stderr
    assert run("generate", *QUESTION).stdout.strip()


@pytest.mark.skipif("cuda" in BACKENDS, reason="cuda is built in")
def test_a_backend_that_is_not_built_in_is_an_error_with_its_option(run: Run) -> None:
    refused = run("generate", *QUESTION, "--gpu-backend", "cuda", code=1)
    assert "pip install . -C cmake.define.GGML_CUDA=ON" in refused.stderr
    assert "--gpu-fallback" in refused.stderr
