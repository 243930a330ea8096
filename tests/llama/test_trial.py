"""The first use of a backend library: one that crashes, ends the process, hangs or refuses hurts nobody."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from shimmy.llama import modules, trial
from shimmy.llama._ffi import LIB_DIR
from shimmy.llama.trial import Verdict
from shimmy.llama.verdicts import Verdicts

CRASH = (
    "#include <signal.h>\n__attribute__((constructor)) static void boom(void) { raise(SIGSEGV); }"
)
CPU_FLAGS = Path("/proc/cpuinfo").read_text() if sys.platform == "linux" else ""
CPU = next(module.path for module in modules.find(LIB_DIR) if module.family == "cpu")


@pytest.fixture
def stub(tmp_path: Path) -> Callable[..., Path]:
    def build(code: str, name: str = "libggml-cuda.so") -> Path:
        source = tmp_path / "stub.c"
        source.write_text(code)
        subprocess.run(["cc", "-shared", "-fPIC", "-o", tmp_path / name, source], check=True)
        return tmp_path / name

    return build


def test_a_sound_library_is_clean() -> None:
    verdict = trial.judge(CPU)
    assert verdict.clean
    assert verdict == Verdict()


@pytest.mark.skipif("avx2" not in CPU_FLAGS, reason="this CPU repacks nothing")
def test_weights_are_tried_where_a_model_puts_them_too() -> None:
    """Repacked weights have kernels of their own, AMX's among them."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", trial._PROGRAM, "compute", CPU],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    [device] = json.loads(done.stdout)
    assert device["problem"] == ""
    assert {"CPU", "CPU_REPACK"} <= set(device["buffers"])


def test_a_crash_on_load_names_the_signal(stub) -> None:
    verdict = trial.judge(stub(CRASH))
    assert "crashed (SIGSEGV)" in verdict.problem
    assert "--retry-backends" in verdict.problem
    assert not verdict.clean


def test_a_crash_in_the_backends_start(stub) -> None:
    code = "#include <stdlib.h>\nvoid *ggml_backend_init(void) { abort(); }"
    assert "crashed (SIGABRT)" in trial.judge(stub(code)).problem


def test_a_library_that_ends_the_process_is_quoted(stub) -> None:
    """ggml's OpenCL does so when GGML_OPENCL_PLATFORM names none."""
    code = """#include <stdio.h>
#include <stdlib.h>
void *ggml_backend_init(void) { fprintf(stderr, "no such platform\\n"); exit(3); }"""
    problem = trial.judge(stub(code)).problem
    assert "exit code 3" in problem
    assert "no such platform" in problem


def test_a_library_that_hangs_is_given_up(stub, monkeypatch) -> None:
    monkeypatch.setattr(trial, "TRIAL_SECONDS", 1.0)
    code = "#include <unistd.h>\nvoid *ggml_backend_init(void) { for (;;) sleep(1); }"
    assert "no answer within 1 s" in trial.judge(stub(code)).problem


def test_one_that_is_slow_because_the_machine_is_busy_may_go_on(stub, monkeypatch) -> None:
    """It computes a fifth of the time, as if others had the rest."""
    monkeypatch.setattr(trial, "TRIAL_SECONDS", 2.0)
    code = """#include <time.h>
#include <unistd.h>
void *ggml_backend_init(void) {
    for (int i = 0; i < 30; i++) {
        for (clock_t until = clock() + CLOCKS_PER_SEC / 50; clock() < until;) {}
        usleep(80000);
    }
    return 0;
}"""
    began = time.monotonic()
    assert trial.judge(stub(code)).clean
    assert time.monotonic() - began > 2.0


def test_one_that_refuses_to_start_does_no_harm(stub) -> None:
    """Its reason is found by those who ask; tomorrow the driver may be there."""
    assert trial.judge(stub("void *ggml_backend_init(void) { return 0; }")).clean


def test_a_verdict_is_kept_until_the_library_changes(tmp_path: Path) -> None:
    library = tmp_path / "libggml-cuda.so"
    library.write_text("one")
    bad, calls = Verdict(problem="it crashed", flash_attn="x", devices={"CUDA0": "wrong"}), []

    def judge() -> Verdict:
        calls.append(1)
        return bad

    for _ in range(2):  # of another process, as it were
        assert Verdicts(tmp_path / "cache").of(library, judge) == bad
    assert len(calls) == 1
    library.write_text("another")
    assert Verdicts(tmp_path / "cache").of(library, judge) == bad
    assert len(calls) == 2


def test_retry_doubts_the_bad_ones_alone(tmp_path: Path) -> None:
    verdicts = Verdicts(tmp_path / "cache")
    good, bad = tmp_path / "libggml-vulkan.so", tmp_path / "libggml-cuda.so"
    for path in (good, bad):
        path.write_text(path.name)
    verdicts.of(good, Verdict)
    verdicts.of(bad, lambda: Verdict(problem="it crashed"))
    again = replace(Verdict(), flash_attn="it crashed")
    assert verdicts.of(good, lambda: pytest.fail("tried again"), retry=True).clean
    assert verdicts.of(bad, lambda: again, retry=True) == again
    assert verdicts.of(bad, Verdict, retry=True).clean


def test_another_driver_or_device_is_another_machine(tmp_path: Path, monkeypatch) -> None:
    library = tmp_path / "libggml-vulkan.so"
    library.write_text("x")
    Verdicts(tmp_path).of(library, lambda: Verdict(problem="it crashed"))
    monkeypatch.setenv("VK_DRIVER_FILES", "/other.json")
    assert Verdicts(tmp_path).of(library, Verdict).clean


@pytest.mark.parametrize("text", ["", "{", "[]", '{"x": {"problem": 1, "unknown": 2}}'])
def test_a_spoiled_cache_is_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "backends.json").write_text(text)
    library = tmp_path / "libggml-cuda.so"
    library.write_text("x")
    assert Verdicts(tmp_path).of(library, lambda: Verdict(problem="new")).problem == "new"
    assert "new" in (tmp_path / "backends.json").read_text()


def test_a_folder_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    library = tmp_path / "libggml-cuda.so"
    library.write_text("x")
    assert Verdicts(tmp_path / "file").of(library, Verdict).clean


def test_the_best_variant_that_passes_is_taken(tmp_path: Path, stub) -> None:
    """A CPU variant crashes on this machine: the next one computes."""
    worse = tmp_path / "libggml-cpu.so"
    worse.write_bytes(CPU.read_bytes())
    (tmp_path / "libggml-base.so").write_bytes((LIB_DIR / "libggml-base.so").read_bytes())
    best = tmp_path / "libggml-cpu-best.so"
    code = "#include <signal.h>\nint ggml_backend_score(void) { return 9; }\n"
    code += "void *ggml_backend_init(void) { raise(SIGILL); return 0; }"
    stub(code, best.name)
    script = f"""
import json
from pathlib import Path
from shimmy.llama import backend
backend.LIB_DIR = Path({str(tmp_path)!r})
print(json.dumps({{m.name: [m.loaded, m.reason] for m in backend.modules()}}))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert found["cpu"] == [True, None]
    assert found["cpu-best"][0] is False
    assert "crashed (SIGILL)" in found["cpu-best"][1]
