"""Steps run ahead where a core is left for the thread that tells the last one, and not elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shimmy.engine import Engine
from shimmy.engine.types.info import DevicePlacement
from shimmy.engine.types.options import EngineOptions
from shimmy.engine.types.prompt import TokenPrompt
from shimmy.worker import cores
from shimmy.worker.placed import on_host
from shimmy.worker.runner import NativeRunner
from tests.engine.ask import ask
from tests.support.tiny_gguf import write_model


async def n_taken(
    model: Path, monkeypatch: pytest.MonkeyPatch, *, usable: int, n_threads: int
) -> int:
    """Generate on a machine of so many cores, and return how many steps had run ahead."""
    taken = []
    take = NativeRunner.take

    def counted(self: NativeRunner, *, ahead: bool) -> object:
        taken.append(ahead)
        return take(self, ahead=ahead)

    monkeypatch.setattr(NativeRunner, "take", counted)
    monkeypatch.setattr(cores, "usable", lambda: usable)
    options = EngineOptions(model_path=str(model), n_ctx=256, n_threads=n_threads)
    async with Engine.solo(options) as engine:
        answer = await ask(engine, TokenPrompt([5, 6, 7]), max_tokens=20, ignore_eos=True)
    assert answer.end.reason == "length"
    return len(taken)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("m") / "tiny.gguf")


async def test_steps_run_ahead_where_a_core_is_left(model, monkeypatch) -> None:
    assert await n_taken(model, monkeypatch, usable=2, n_threads=1) > 10


async def test_no_step_runs_ahead_where_all_cores_compute(model, monkeypatch) -> None:
    assert await n_taken(model, monkeypatch, usable=2, n_threads=2) == 0


def test_layers_experts_or_the_output_in_host_memory_keep_the_cpu_busy() -> None:
    def on(
        device: str, layers: list[int], experts: list[int], *, output: bool = False
    ) -> DevicePlacement:
        return DevicePlacement(
            device=device, layers=layers, experts=experts, output=output, weights=0,
            expert_weights=0, kv=0, compute=0,
        )  # fmt: skip

    assert not on_host([on("CUDA0", [0, 1], []), on("CPU", [], [])])
    assert on_host([on("CUDA0", [0, 1], []), on("CPU", [], [1])])
    assert on_host([on("CUDA0", [0], []), on("CPU", [1], [])])
    # all layers, but not one more: -ngl counts the output as one
    assert on_host([on("CUDA0", [0, 1], []), on("CPU", [], [], output=True)])


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no core can be taken away")
def test_threads_are_those_the_process_may_run_on() -> None:
    one = min(os.sched_getaffinity(0))
    code = (
        f"import os; os.sched_setaffinity(0, {{{one}}})\n"
        "from shimmy.worker import cores\n"
        "from shimmy.engine.types.options import EngineOptions\n"
        "print(cores.n_threads(EngineOptions(model_path='')), cores.spare(1))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "False"]
    assert cores.n_threads(EngineOptions(model_path="", n_threads=7)) == 7
