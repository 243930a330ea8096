"""A driver that crashes, or is not there: commands say which and why, and compute on the CPU.

The stubs come in as GGML_BACKEND_PATH, ggml's own way to one more library.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.support.served import serve

CRASH = """#include <stdio.h>
#include <stdlib.h>
#include <signal.h>
__attribute__((constructor)) static void boom(void) {
    FILE *file = fopen(getenv("STUB_LOG"), "a");
    fputs("x", file);
    fclose(file);
    raise(SIGSEGV);
}"""


@pytest.fixture
def stub(tmp_path, monkeypatch):
    """Build a stub backend and have every process of the test find it; `needs` is a library that goes missing."""

    def build(code: str, *, needs: str | None = None) -> Path:
        source, module = tmp_path / "stub.c", tmp_path / "libggml-cuda.so"
        source.write_text(code)
        command = ["cc", "-shared", "-fPIC", "-o", module, source]
        if needs is not None:
            (tmp_path / "empty.c").write_text("void driver(void) {}")
            library = tmp_path / needs
            subprocess.run(
                ["cc", "-shared", "-fPIC", f"-Wl,-soname,{needs}", "-o", library, tmp_path / "empty.c"],
                check=True,
            )  # fmt: skip
            subprocess.run([*command, "-Wl,--no-as-needed", library], check=True)
            library.unlink()
        else:
            subprocess.run(command, check=True)
        monkeypatch.setenv("GGML_BACKEND_PATH", str(module))
        monkeypatch.setenv("STUB_LOG", str(tmp_path / "loads"))
        return module

    return build


def loads(tmp_path: Path) -> int:
    return len((tmp_path / "loads").read_text())


def cuda(result) -> dict:
    backends = json.loads(result.stdout)["backends"]
    return next(one for one in backends if one["name"] == "cuda")


def test_a_driver_that_crashes_is_tried_once_and_left_out(shimmy, stub, tmp_path):
    stub(CRASH)
    for _ in range(2):
        result = shimmy("gpu-info", "--json")
        assert result.exit_code == 0
        found = cuda(result)
        assert found["loaded"] is False
        assert "it crashed (SIGSEGV) when it was tried" in found["problem"]
        assert "--retry-backends" in found["problem"]
    assert loads(tmp_path) == 1
    assert cuda(shimmy("gpu-info", "--json", "--retry-backends"))["loaded"] is False
    assert loads(tmp_path) == 2


def test_a_model_loads_and_answers_beside_it(shimmy, stub, tiny):
    stub(CRASH)
    info = json.loads(shimmy("probe", tiny, "-t", "1", "--json").stdout)["info"]
    assert info["devices"] == ["CPU"]
    assert info["n_gpu_layers"] == 0


def test_the_backend_that_was_forced_says_that_it_crashed(shimmy, stub, tiny):
    stub(CRASH)
    result = shimmy("probe", tiny, "--gpu-backend", "cuda")
    assert result.exit_code == 2
    assert (
        "--gpu-backend cuda: the cuda backend did not load: it crashed (SIGSEGV)" in result.stderr
    )
    assert "--gpu-fallback" in result.stderr
    again = shimmy("probe", tiny, "-t", "1", "--gpu-backend", "cuda", "--gpu-fallback", "--json")
    info = json.loads(again.stdout)["info"]
    assert info["gpu_backend"] == "cpu"
    assert "it crashed (SIGSEGV)" in info["notes"][0]


def test_a_library_that_is_missing_is_named_with_what_brings_it(shimmy, stub):
    stub("void driver(void); void *ggml_backend_init(void) { return 0; }", needs="libcuda.so.1")
    result = shimmy("gpu-info", "--gpu-backend", "cuda")
    assert result.exit_code == 1
    assert "libcuda.so.1: cannot open shared object file" in result.stderr
    assert "NVIDIA's driver" in result.stderr
    doctor = shimmy("doctor")
    assert doctor.exit_code == 1
    assert "libcuda.so.1" in doctor.stdout
    assert "apt-get install nvidia-driver" in doctor.stdout


def test_a_driver_that_breaks_after_its_trial_is_found_out(shimmy, stub, tmp_path):
    """It passed when it was tried, and kills the worker now: gpu-info tries all again and reports."""
    code = """#include <signal.h>
#include <unistd.h>
void *ggml_backend_init(void) { if (access("%s", F_OK) == 0) raise(SIGBUS); return 0; }"""
    stub(code % (tmp_path / "broken"))
    assert "refused to start" in cuda(shimmy("gpu-info", "--json"))["problem"]
    (tmp_path / "broken").touch()
    result = shimmy("gpu-info", "--json")
    assert result.exit_code == 0
    assert "it crashed (SIGBUS)" in cuda(result)["problem"]


def test_issue_128_a_server_answers_twice_beside_a_driver_that_crashes(stub, tmp_path):
    """The second request works, backends are started once for each worker."""
    stub(CRASH)
    with serve(tmp_path, "-t", "1") as served:
        served.wait_healthy()
        body = {
            "model": "shimmy-demo",
            "messages": [{"role": "user", "content": "Hi"}],
            "max_tokens": 4,
        }
        for _ in range(2):
            status, answer = served.post("/v1/chat/completions", body)
            assert status == 200
            assert answer["choices"][0]["message"]["content"]
    assert loads(tmp_path) == 1
