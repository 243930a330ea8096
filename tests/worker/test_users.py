"""A model that threads are still busy with when it goes: freed after them, never under them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from shimmy.worker.users import Users

CLOSES = """
import asyncio, sys
from shimmy.engine import Engine
from shimmy.engine.types.options import EngineOptions
from shimmy.engine.types.prompt import TextPrompt
from shimmy.worker import worker

worker._LEAVE_SECONDS = float(sys.argv[2])
text = "the quick brown fox " * 100_000

async def main():
    options = EngineOptions(model_path=sys.argv[1], n_threads=1, n_ctx=256)
    async with Engine.solo(options) as engine:
        calls = [asyncio.create_task(engine.tokenize(text)), asyncio.create_task(engine.embed([TextPrompt(text)]))]
        await asyncio.sleep(0.1)
    await asyncio.sleep(0.2)
    return await asyncio.gather(*calls, return_exceptions=True)

print(*(type(one).__name__ for one in asyncio.run(main())))
"""


def test_it_is_freed_at_once_when_nobody_is_in() -> None:
    users = Users()
    users.enter()
    users.leave()
    freed = []
    assert users.end(lambda: freed.append(threading.current_thread()), 0.0)
    assert freed == [threading.current_thread()]


def test_it_is_freed_here_when_the_last_one_leaves_in_time() -> None:
    users, events = Users(), []

    def leave() -> None:
        events.append("left")
        users.leave()

    others = [threading.Timer(0.05 * (i + 1), leave) for i in range(2)]
    for other in others:
        users.enter()
        other.start()
    assert users.end(lambda: events.append(threading.current_thread()), 60.0)
    assert events == ["left", "left", threading.current_thread()]
    for other in others:
        other.join()


def test_who_stays_too_long_frees_it_and_nobody_else() -> None:
    users, freed = Users(), []
    for _ in range(2):
        users.enter()
    assert not users.end(lambda: freed.append("freed"), 0.01)
    assert not freed
    users.leave()
    assert not freed
    users.leave()
    assert freed == ["freed"]


@pytest.mark.parametrize("patience", [60.0, 0.0], ids=["waits", "leaves it to the last"])
def test_closing_a_model_that_texts_are_tokenised_for_ends_well(
    tiny_gguf: Path, patience: float
) -> None:
    """Freed under a thread of ours it took the program down with it (SIGSEGV)."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", CLOSES, tiny_gguf, str(patience)],
        capture_output=True, text=True, check=False, timeout=110,
        env=os.environ | {"MALLOC_PERTURB_": "165"},  # what is freed is overwritten
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["EngineClosedError"] * 2
    assert done.stderr == ""
