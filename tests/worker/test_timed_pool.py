"""Work that hangs is given up, and does not stand in the way of other work."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from shimmy.worker.timed_pool import MAX_STUCK, TimedPool

SOON = 10.0


@pytest.fixture
def hanging() -> Iterator[threading.Event]:
    """Released at the end, so that no thread outlives the test for long."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def pool() -> Iterator[TimedPool]:
    pool = TimedPool(2, 0.2)
    yield pool
    pool.close()


def never() -> None:
    raise AssertionError("this work was in time")


def test_work_is_done_and_nobody_is_late(pool: TimedPool) -> None:
    done = [threading.Event() for _ in range(20)]
    for event in done:
        pool.submit(event.set, never)
    assert all(event.wait(SOON) for event in done)


def test_work_that_hangs_is_given_up_once(pool: TimedPool, hanging: threading.Event) -> None:
    late: list[int] = []
    told = threading.Event()

    def give_up() -> None:
        late.append(1)
        told.set()

    pool.submit(lambda: hanging.wait(SOON) and None, give_up)
    assert told.wait(SOON)
    hanging.set()
    done = threading.Event()
    pool.submit(done.set, never)
    assert done.wait(SOON)
    assert late == [1]


def test_other_work_is_done_while_more_hangs_than_there_are_threads(
    pool: TimedPool, hanging: threading.Event
) -> None:
    for _ in range(5):
        pool.submit(lambda: hanging.wait(SOON) and None, lambda: None)
    done = threading.Event()
    pool.submit(done.set, never)
    assert done.wait(SOON)


def test_when_too_much_hangs_work_is_refused_at_once(hanging: threading.Event) -> None:
    pool = TimedPool(MAX_STUCK, 0.05)
    late = threading.Semaphore(0)
    for _ in range(MAX_STUCK):
        pool.submit(lambda: hanging.wait(SOON) and None, late.release)
    assert all(late.acquire(timeout=SOON) for _ in range(MAX_STUCK))
    refused: list[int] = []
    pool.submit(lambda: None, lambda: refused.append(1))
    assert refused == [1]
    pool.close()


def test_a_closed_pool_begins_nothing(pool: TimedPool) -> None:
    pool.close()
    pool.submit(never, never)
