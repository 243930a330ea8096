"""Times that are over are told, the soonest first."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator

import pytest

from shimmy.worker.alarm import Alarm


@pytest.fixture
def rung() -> queue.SimpleQueue[int]:
    return queue.SimpleQueue()


@pytest.fixture
def alarm(rung: queue.SimpleQueue[int]) -> Iterator[Alarm]:
    alarm = Alarm(rung.put)
    yield alarm
    alarm.close()


def test_a_time_that_is_sooner_than_the_others_does_not_wait_for_them(
    alarm: Alarm, rung: queue.SimpleQueue[int]
) -> None:
    now = time.monotonic()
    alarm.set(1, now + 1e300, {1})
    alarm.set(2, now + 0.2, {1, 2})
    alarm.set(3, now + 0.1, {1, 2, 3})
    assert [rung.get(timeout=10) for _ in range(2)] == [3, 2]
    assert time.monotonic() - now >= 0.2
    assert rung.empty()


def test_times_of_what_is_no_more_do_not_pile_up(alarm: Alarm) -> None:
    due = time.monotonic() + 3600
    for i in range(1000):
        alarm.set(i, due + i, {i})
    assert len(alarm) < 100


def test_nothing_rings_after_the_end(alarm: Alarm, rung: queue.SimpleQueue[int]) -> None:
    alarm.set(1, time.monotonic() + 0.05, {1})
    alarm.close()
    alarm.set(2, time.monotonic(), {2})
    time.sleep(0.1)
    assert rung.empty()
