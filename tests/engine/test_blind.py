"""A projector that lies beside a model and kills the worker while it loads: the model goes without."""

from __future__ import annotations

import asyncio
import os
import signal

import msgspec
import pytest

from shimmy.engine import Engine, EngineState
from shimmy.engine.planning import plan_load
from shimmy.engine.types.options import EngineOptions
from shimmy.errors import EngineDeadError, ModelLoadError
from tests.engine.ask import ask
from tests.engine.test_seeing import look, seeing
from tests.support.vision import make_pair

NOTE = "the model sees no images: a load with the projector {} ended the worker (killed by signal {}); --mmproj "


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> EngineOptions:
    """A model beside which lies a projector that nobody named."""
    return seeing(make_pair("llava", tmp_path_factory.mktemp("llava")), mmproj_required=False)


@pytest.fixture(scope="module")
def deadly(tmp_path_factory: pytest.TempPathFactory) -> EngineOptions:
    """One whose projector lacks what llama.cpp uses without looking: it ends with SIGSEGV."""
    pair = make_pair("llava", tmp_path_factory.mktemp("deadly"), lacking=("mm.2.weight",))
    return seeing(pair, mmproj_required=False)


def notes_of(engine: Engine) -> list[str]:
    assert engine.info is not None
    return engine.info.notes


async def test_a_found_projector_that_kills_the_worker_leaves_the_model_usable(
    deadly: EngineOptions, caplog: pytest.LogCaptureFixture
) -> None:
    note = NOTE.format(deadly.mmproj, "SIGSEGV")
    async with Engine.child(deadly) as engine:
        assert engine.info is not None
        assert not engine.info.vision
        assert [one.startswith(note) for one in notes_of(engine)] == [True]
        assert note in caplog.text
        assert engine.restarts == 0
        assert (await ask(engine, max_tokens=2, ignore_eos=True)).end.usage.completion_tokens == 2
        # the next worker begins where this one is
        assert engine.worker_pid is not None
        os.kill(engine.worker_pid, signal.SIGKILL)
        while engine.state is EngineState.READY:
            await ask_once(engine)
        await engine.ready()
        assert len(notes_of(engine)) == 1


async def ask_once(engine: Engine) -> None:
    try:
        await ask(engine, max_tokens=1)
    except EngineDeadError:
        return


async def test_one_that_was_named_fails_the_load_and_says_how(deadly: EngineOptions) -> None:
    named = msgspec.structs.replace(deadly, mmproj_required=True)
    with pytest.raises(ModelLoadError, match=r"SIGSEGV while loading .*--no-mmproj loads it"):
        async with Engine.child(named):
            pass


async def test_a_plan_leaves_it_out_as_the_load_does(deadly: EngineOptions) -> None:
    plan = await plan_load(deadly)
    assert plan.mmproj is None
    assert "the model sees no images" in plan.changes[-1]
    with pytest.raises(EngineDeadError, match="SIGSEGV"):
        await plan_load(msgspec.structs.replace(deadly, mmproj_required=True))


async def test_a_load_that_dies_without_it_too_is_tried_once_more_and_no_more(
    found: EngineOptions,
) -> None:
    engine = Engine.child(found)
    await engine.start()
    seen: set[int] = set()
    while engine.state is EngineState.LOADING:
        if (pid := engine.worker_pid) is not None and pid not in seen:
            seen.add(pid)
            os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(0.002)
    with pytest.raises(ModelLoadError, match=r"SIGKILL while loading [^ ]*\.gguf$"):
        await engine.ready()
    assert len(seen) == 2
    await engine.close()


async def test_a_worker_that_dies_again_while_it_is_replaced_comes_back_without(
    found: EngineOptions,
) -> None:
    async with Engine.child(found) as engine:
        assert (await look(engine, 1)).text
        pids = [engine.worker_pid]
        for _ in range(2):
            assert pids[-1] is not None
            os.kill(pids[-1], signal.SIGKILL)
            while (pid := engine.worker_pid) in {None, pids[-1]}:
                await asyncio.sleep(0.002)
            pids.append(pid)
        info = await engine.ready()
        assert not info.vision
        assert "SIGKILL" in info.notes[-1]


@pytest.mark.parametrize("n_turns", [0, 1, 2, 3, 5, 8])
async def test_closing_between_the_two_loads_leaves_no_process(
    found: EngineOptions, n_turns: int
) -> None:
    engine = Engine.child(found)
    await engine.start()
    first = engine.worker_pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    while engine.worker_pid == first:
        await asyncio.sleep(0)
    for _ in range(n_turns):
        await asyncio.sleep(0)
    await engine.close()
    assert engine.state is EngineState.CLOSED
    assert engine.worker_pid is None
