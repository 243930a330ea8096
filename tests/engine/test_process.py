"""The worker process: its death, its restart, its end, and what reaches the requests in flight."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from shimmy.engine import Engine, EngineState, describe_system
from shimmy.engine.types.options import EngineOptions
from shimmy.errors import EngineClosedError, EngineDeadError, ModelLoadError, ShimmyError
from tests.engine.ask import Answer, ask, request


async def started(engine: Engine, n: int) -> list[asyncio.Task[Answer]]:
    """Start `n` endless requests and return once one of them generates."""
    generating = asyncio.Event()
    tasks = [
        asyncio.create_task(
            ask(engine, f"story {i}", max_tokens=None, ignore_eos=True, generating=generating)
        )
        for i in range(n)
    ]
    await generating.wait()
    return tasks


async def test_child_and_solo_give_the_same_text(child: Engine, solo: Engine) -> None:
    assert (await ask(child, max_tokens=16)).text == (await ask(solo, max_tokens=16)).text


async def test_killing_the_worker_fails_what_runs_and_the_next_request_is_answered(
    child: Engine,
) -> None:
    for round_number in range(3):
        tasks = await started(child, 8)
        pid = child.worker_pid
        assert pid is not None
        killed = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert time.monotonic() - killed < 2
        assert [type(outcome) for outcome in outcomes] == [EngineDeadError] * 8
        assert "SIGKILL" in str(outcomes[0])
        assert (await ask(child, max_tokens=2, ignore_eos=True)).end.usage.completion_tokens == 2
        assert child.restarts == round_number + 1
        assert child.state is EngineState.READY


async def test_a_request_sent_while_the_worker_restarts_waits_for_it(child: Engine) -> None:
    assert child.worker_pid is not None
    os.kill(child.worker_pid, signal.SIGKILL)
    while child.state is EngineState.READY:
        await asyncio.sleep(0.005)
    assert child.state is EngineState.RESTARTING
    assert (await ask(child, max_tokens=2, ignore_eos=True)).end.usage.completion_tokens == 2


async def test_a_cancelled_request_frees_its_slot_at_once(options: EngineOptions) -> None:
    import msgspec

    one_slot = msgspec.structs.replace(options, n_parallel=1)
    async with Engine.child(one_slot) as engine:
        for _ in range(5):
            (task,) = await started(engine, 1)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert engine.n_active == 0
        answer = await asyncio.wait_for(ask(engine, max_tokens=2), 5)
        assert answer.end.timings.queue_ms < 1000


async def test_a_request_made_before_the_model_is_loaded_waits_for_it(
    options: EngineOptions,
) -> None:
    engine = Engine.child(options)
    await engine.start()
    try:
        assert engine.state is EngineState.LOADING
        answer = await ask(engine, max_tokens=2, ignore_eos=True)
        assert answer.end.usage.completion_tokens == 2
        assert engine.progress == 1.0
    finally:
        await engine.close()


@pytest.mark.parametrize("kind", ["child", "solo"])
async def test_a_file_that_is_no_model_fails_the_load_with_llama_cpps_words(
    tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF" + bytes(64))
    engine = getattr(Engine, kind)(path)
    await engine.start()
    generation = engine.generate(request())
    with pytest.raises(ModelLoadError, match=r"broken\.gguf"):
        await engine.ready()
    assert engine.state is EngineState.FAILED
    with pytest.raises(ModelLoadError):
        await anext(generation)
    with pytest.raises(ModelLoadError):
        engine.generate(request())
    await engine.close()


async def test_a_missing_file_fails_the_load(tmp_path: Path) -> None:
    engine = Engine.child(tmp_path / "nothing.gguf")
    await engine.start()
    with pytest.raises(ShimmyError, match=r"nothing\.gguf"):
        await engine.ready()
    await engine.close()


async def test_a_worker_that_dies_while_loading_is_a_load_failure_that_says_how(
    options: EngineOptions,
) -> None:
    engine = Engine.child(options)
    await engine.start()
    assert engine.worker_pid is not None
    os.kill(engine.worker_pid, signal.SIGKILL)
    with pytest.raises(ModelLoadError, match="SIGKILL"):
        await engine.ready()
    await engine.close()


async def test_closing_fails_what_runs_and_leaves_no_process(options: EngineOptions) -> None:
    engine = Engine.child(options)
    await engine.start()
    await engine.ready()
    tasks = await started(engine, 3)
    pid = engine.worker_pid
    assert pid is not None
    await engine.close()
    await engine.close()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [EngineClosedError] * 3
    assert not psutil.pid_exists(pid)
    with pytest.raises(EngineClosedError):
        engine.generate(request())


async def test_the_worker_ends_when_its_parent_is_killed(options: EngineOptions) -> None:
    script = (
        "import asyncio, sys, time\n"
        "from shimmy.engine import Engine\n"
        "async def main():\n"
        "    engine = Engine.child(sys.argv[1])\n"
        "    await engine.start(); await engine.ready()\n"
        "    print(engine.worker_pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, options.model_path], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pid = int(await asyncio.to_thread(parent.stdout.readline))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    worker = psutil.Process(pid) if psutil.pid_exists(pid) else None
    if worker is not None:
        await asyncio.to_thread(worker.wait, 10)


async def test_what_native_code_prints_does_not_reach_the_pipe(
    options: EngineOptions, capfd: pytest.CaptureFixture[str]
) -> None:
    import msgspec

    loud = msgspec.structs.replace(options, log_level="debug")
    async with Engine.child(loud) as engine:
        assert (await ask(engine, max_tokens=2, ignore_eos=True)).end.usage.completion_tokens == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "llama" in captured.err


async def test_describing_the_system_lists_the_cpu_and_needs_no_model() -> None:
    info = await describe_system()
    assert "CPU" in [device.name for device in info.devices]
    cpu = next(backend for backend in info.backends if backend.name == "CPU")
    assert cpu.loaded
    assert cpu.features
