"""Searching again while a server runs: off the loop's thread, shared, and not too often."""

from __future__ import annotations

import asyncio
import threading

import pytest

from shimmy.errors import ModelNotFoundError
from shimmy.models import registry as module
from shimmy.models.registry import Registry
from tests.models import gguf


class Counted(Registry):
    """A registry that counts its searches, on which thread they ran, and can be held up."""

    def __init__(self, **options) -> None:
        self.threads: list[int] = []
        self.go = threading.Event()
        self.go.set()
        super().__init__(**options)

    def refresh(self):
        self.go.wait(10)
        self.threads.append(threading.get_ident())
        return super().refresh()


async def test_a_new_file_is_found_when_it_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FRESH_UNKNOWN", 0.0)
    monkeypatch.setattr(module, "SHARE", 1e9)
    registry = Counted(roots=[tmp_path])
    gguf.write(tmp_path / "new.gguf")
    assert (await registry.find("new")).name == "new"
    assert registry.threads[1] != threading.get_ident(), "not on the loop's thread"
    with pytest.raises(ModelNotFoundError):
        await registry.find("newer")
    assert (await registry.find("new")).name == "new"
    assert len(registry.threads) == 3, "a name that is known needs no search"


async def test_the_list_is_fresh_after_some_seconds(tmp_path, monkeypatch):
    registry = Counted(roots=[tmp_path])
    gguf.write(tmp_path / "new.gguf")
    assert await registry.fresh(60.0) == []
    monkeypatch.setattr(registry, "_next_scan", 0.0)
    assert [entry.name for entry in await registry.fresh(0.0)] == ["new"]
    (tmp_path / "new.gguf").unlink()
    monkeypatch.setattr(registry, "_next_scan", 0.0)
    assert await registry.fresh(0.0) == []


async def test_many_who_ask_share_one_search_and_searches_are_far_between(tmp_path):
    registry = Counted(roots=[tmp_path])
    registry._next_scan = 0.0
    registry.go.clear()
    waiting = [asyncio.create_task(registry.find(f"x{n}")) for n in range(50)]
    await asyncio.sleep(0.01)
    registry.go.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(result, ModelNotFoundError) for result in results)
    with pytest.raises(ModelNotFoundError):
        await registry.find("and one more")
    assert len(registry.threads) == 2


def test_a_slow_search_takes_a_small_part_of_the_time(tmp_path, monkeypatch):
    registry = Registry(roots=[tmp_path])
    times = iter((100.0, 103.0))
    monkeypatch.setattr(module.time, "monotonic", lambda: next(times))
    registry.refresh()
    assert registry._next_scan == pytest.approx(103.0 + 3.0 / module.SHARE)
