"""The host cache: what it hands out is what it was given, and it stays within its bytes."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from shimmy.worker.host_cache import HostCache, names
from shimmy.worker.resident import prefix_key


def data(n_bytes: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, n_bytes, np.uint8)


def key(tokens: list[int]) -> bytes:
    return prefix_key([*tokens, 0])


def test_what_was_put_comes_back() -> None:
    cache = HostCache(1000)
    assert cache.put(b"a", data(101))
    got = cache.get(b"a")
    assert got is not None
    assert (got == data(101)).all()
    assert cache.get(b"b") is None


def test_what_keeping_takes_is_loaded_beside_the_engines_thread() -> None:
    """Importing numpy took 50 to 70 ms when the cells were full for the first time, and every stream paused."""
    program = """
import sys, threading, time
from shimmy.worker import host_cache
host_cache.SOON = 0.0
cache = host_cache.HostCache(1000)
assert "numpy" not in sys.modules
n_threads = threading.active_count()
cache.expect()
cache.expect()
assert threading.active_count() <= n_threads + 1
until = time.monotonic() + 10
while "numpy" not in sys.modules and time.monotonic() < until:
    time.sleep(0.01)
assert "numpy" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_longest_unused_goes_when_bytes_run_out() -> None:
    cache = HostCache(300)
    for name in (b"a", b"b", b"c"):
        cache.put(name, data(100))
    cache.touch([b"a"])
    cache.put(b"d", data(150))
    assert [name in cache for name in (b"a", b"b", b"c", b"d")] == [True, False, False, True]
    assert cache.n_bytes == 250


def test_what_is_larger_than_the_cache_is_refused_and_nothing_is_lost_for_it() -> None:
    cache = HostCache(300)
    cache.put(b"a", data(100))
    assert cache.put(b"b", data(301)) is False
    assert b"a" in cache


def test_putting_again_replaces() -> None:
    cache = HostCache(300)
    cache.put(b"a", data(100))
    cache.put(b"a", data(200, seed=1))
    assert cache.n_bytes == 200
    assert len(cache) == 1


def test_the_end_of_a_sequence_goes_before_its_beginning() -> None:
    cache = HostCache(300)
    for name in (b"1", b"2", b"3"):
        cache.put(name, data(100))
    cache.touch([b"1", b"2", b"3"])
    cache.put(b"x", data(100))
    assert [name in cache for name in (b"1", b"2", b"3")] == [True, True, False]


@pytest.mark.parametrize("at", [0, 57, 800, 802])
def test_damaged_data_is_never_handed_out(at: int) -> None:
    cache = HostCache(10_000)
    kept = data(803)
    cache.put(b"a", kept)
    kept[at] ^= 4
    assert cache.get(b"a") is None
    assert cache.n_bytes == 0


def test_blocks_are_named_by_all_that_comes_before_them() -> None:
    first = list(names(key([1] * 40), 16))
    assert len(first) == 2
    assert list(names(key([1] * 32), 16)) == first
    other = list(names(key([2] + [1] * 39), 16))
    assert not set(first) & set(other)
    assert list(names(key([1] * 15), 16)) == []
