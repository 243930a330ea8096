"""Thousands of damaged headers: the reader judges each soon; what it lets through ends no server.

MUTANTS=3000 loads every one that the reader lets through, each into a worker of its own (minutes).
What the reader refuses is not safe by that alone: the rows of the abort table are loaded here without
it, and cost no worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest

from shimmy.engine import Engine
from shimmy.engine.types.options import EngineOptions
from shimmy.errors import BackendError, GgufError, ShimmyError
from shimmy.models.gguf.facts import facts_of
from shimmy.models.gguf.file import read_gguf
from tests.engine.ask import ask
from tests.llama.test_hostile_gguf import ABORTS
from tests.models import mutants
from tests.support import tiny_gguf
from tests.support.served import serve

N_MUTANTS = 3000
N_LOADED = int(os.environ.get("MUTANTS", "30"))
N_SERVED = 12
SEED = 20261121


@pytest.fixture(scope="module")
def bases(tmp_path_factory) -> list[mutants.Parts]:
    """Good files of several kinds."""
    folder = tmp_path_factory.mktemp("bases")
    paths = [
        tiny_gguf.write_model(folder / "llama.gguf", n_layer=1),
        tiny_gguf.write_model(folder / "moe.gguf", n_layer=1, n_expert=4),
        tiny_gguf.write_model(folder / "mamba.gguf", arch="mamba", n_layer=1),
        tiny_gguf.write_model(folder / "bert.gguf", arch="bert", n_layer=1),
        tiny_gguf.write_lora(folder / "lora.gguf"),
    ]
    return [mutants.take_apart(path) for path in paths]


def make(bases: list[mutants.Parts], number: int, path: Path) -> Path:
    """Write the mutant of this number, the same in every run."""
    rng = random.Random(SEED + number)
    parts = bases[number % len(bases)]
    return mutants.write(path, mutants.mutant(parts, rng), parts.size)


@pytest.fixture(autouse=True)
def _folder(tmp_path):
    (tmp_path / "models").mkdir()


def test_a_file_taken_apart_is_put_together_again(tmp_path):
    path = tiny_gguf.write_model(tmp_path / "m.gguf")
    header = mutants.take_apart(path).join()
    assert path.read_bytes().startswith(header)


def test_the_reader_judges_3000_mutants_with_its_own_error_only(bases, tmp_path):
    verdicts: Counter[str] = Counter()
    slowest = 0.0
    for number in range(N_MUTANTS):
        path = make(bases, number, tmp_path / "mutant.gguf")
        start = time.process_time()
        try:
            facts = facts_of(read_gguf(path))
        except GgufError:
            verdicts["refused"] += 1
        else:
            verdicts["objected to" if facts.objection else "accepted"] += 1
        slowest = max(slowest, time.process_time() - start)
    assert slowest < 1.0
    assert min(verdicts["refused"], verdicts["objected to"], verdicts["accepted"]) > 100, verdicts


def test_no_mutant_takes_much_memory(bases, tmp_path):
    tracemalloc.start()
    try:
        for number in range(0, N_MUTANTS, 15):
            path = make(bases, number, tmp_path / "mutant.gguf")
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            with contextlib.suppress(GgufError):
                read_gguf(path)
            assert tracemalloc.get_traced_memory()[1] - before < 8 * 1024 * 1024, number
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("case", ABORTS)
async def test_the_abort_table_costs_no_worker_even_without_the_reader(tmp_path, case):
    path = tiny_gguf.write_model(tmp_path / "m.gguf", **ABORTS[case])
    assert facts_of(read_gguf(path)).objection
    assert await load(path) == "load error"


def test_a_server_outlives_what_the_reader_accepts(bases, tmp_path):
    names = []
    for number in range(N_MUTANTS):
        path = make(bases, number, tmp_path / "models" / f"mutant-{number}.gguf")
        with contextlib.suppress(GgufError):
            facts = facts_of(read_gguf(path))
            if not facts.objection and facts.kind == "llm":
                names.append(path.stem)
                if len(names) == N_SERVED:
                    break
                continue
        path.unlink()
    good = str(tiny_gguf.write_model(tmp_path / "good.gguf", n_layer=1))
    small = ("-c", "64", "-np", "1", "-t", "1", "--models-max", "2")
    with serve(tmp_path, "-m", good, *small) as served:
        for name in names:
            status, body = served.post(f"/api/models/{name}/load", {})
            assert status in {200, 500}, body
            ask = {"model": "good", "prompt": "a", "max_tokens": 1}
            status, body = served.post("/v1/completions", ask)
            assert status == 200, body
        listed = {one["name"] for one in served.get("/api/models")[1]["models"]}
        assert set(names) <= listed


async def load(path: Path) -> str:
    """Load a file into a worker, ask for two tokens if it writes text, and say how that went."""
    options = EngineOptions(
        model_path=str(path),
        n_ctx=64,
        n_parallel=1,
        n_threads=1,
        gpu_backend="cpu",
        log_level="error",
    )
    loaded = False
    try:
        async with Engine.child(options) as engine:
            info = await asyncio.wait_for(engine.ready(), 60)
            loaded = True
            if info.kind == "generative":
                await asyncio.wait_for(ask(engine, "a", max_tokens=2), 60)
            return "loaded"
    except BackendError:
        raise  # the fault of this machine, not of the file
    except ShimmyError as error:
        if "killed by signal" in error.message or "ended with exit code" in error.message:
            return "died"
        return "answer error" if loaded else "load error"


@pytest.mark.slow
@pytest.mark.timeout(3600)
async def test_what_is_accepted_ends_a_worker_at_worst(bases, tmp_path):
    accepted = []
    for number in range(N_MUTANTS):
        if len(accepted) == N_LOADED:
            break
        path = make(bases, number, tmp_path / f"mutant-{number}.gguf")
        try:
            facts = facts_of(read_gguf(path))
        except GgufError:
            path.unlink()
            continue
        if facts.objection or facts.kind == "adapter":
            path.unlink()
        else:
            accepted.append(path)
    gate = asyncio.Semaphore(2)

    async def one(path: Path) -> str:
        async with gate:
            try:
                return await load(path)
            finally:
                path.unlink()

    results = await asyncio.gather(*(one(path) for path in accepted))
    # no assertion of ours, no timeout, nothing that is not one of shimmy's errors got here
    print(f"{len(accepted)} accepted: {Counter(results)}")
    died = [path.name for path, result in zip(accepted, results, strict=True) if result == "died"]
    print("workers that died:", died)
    assert "loaded" in results
    assert "load error" in results
