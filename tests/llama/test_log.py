from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from shimmy.llama import LogLevel, LogLine, LogPump, log
from shimmy.llama._ffi import errors_since, log_mark


def ours(lines: list[LogLine]) -> list[str]:
    return [line.text for line in lines if line.text.startswith("test:")]


def lines_come_out_once_in_order_with_their_level() -> None:
    log.drain()
    log.write(LogLevel.INFO, "test: one")
    log.write(LogLevel.ERROR, "test: two\ntest: three\n")
    lines = [line for line in log.drain() if line.text.startswith("test:")]
    assert lines == [
        LogLine(LogLevel.INFO, "test: one"),
        LogLine(LogLevel.ERROR, "test: two"),
        LogLine(LogLevel.ERROR, "test: three"),
    ]
    assert ours(log.drain()) == []


def lines_below_the_level_are_dropped() -> None:
    log.drain()
    log.write(LogLevel.DEBUG, "test: hidden")
    log.set_level(LogLevel.DEBUG)
    try:
        log.write(LogLevel.DEBUG, "test: shown")
    finally:
        log.set_level(LogLevel.INFO)
    assert ours(log.drain()) == ["test: shown"]


def the_ring_is_bounded_and_counts_what_it_lost() -> None:
    log.drain()
    before = log.dropped()
    for i in range(5000):
        log.write(LogLevel.INFO, f"test: {i:04} " + "x" * 100)
    lines = ours(log.drain())
    assert 1000 < len(lines) < 5000
    assert lines[-1].startswith("test: 4999")
    assert log.dropped() - before == 5000 - len(lines)


def a_very_long_line_is_cut() -> None:
    log.drain()
    log.write(LogLevel.INFO, "test:" + "ä" * 100_000)
    [line] = ours(log.drain())
    assert 4000 < len(line.encode()) <= 4100


def test_errors_are_kept_for_the_thread_that_caused_them() -> None:
    mark = log_mark()
    other = threading.Thread(target=log.write, args=(LogLevel.ERROR, "test: of another thread"))
    other.start()
    other.join()
    assert errors_since(mark) == ("test: of another thread",), "nobody else's: better than nothing"
    log.write(LogLevel.WARN, "test: mine")
    log.write(LogLevel.INFO, "test: no error")
    assert errors_since(mark) == ("test: mine",)
    assert errors_since(log_mark()) == ()


def test_at_most_the_last_32_errors_are_reported() -> None:
    mark = log_mark()
    for i in range(100):
        log.write(LogLevel.ERROR, f"test: {i}")
    assert errors_since(mark) == tuple(f"test: {i}" for i in range(68, 100))


def a_pump_hands_over_every_line_up_to_its_close() -> None:
    log.drain()
    seen: list[LogLine] = []
    with LogPump(seen.append):
        log.write(LogLevel.INFO, "test: first")
        deadline = time.monotonic() + 5
        while not ours(seen) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert ours(seen) == ["test: first"]
        log.write(LogLevel.INFO, "test: last")
    assert ours(seen) == ["test: first", "test: last"]


def writers_in_many_threads_lose_nothing() -> None:
    log.drain()
    threads = [
        threading.Thread(
            target=lambda n=n: [log.write(LogLevel.INFO, f"test: {n} {i}") for i in range(100)]
        )
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ours(log.drain())) == sorted(
        f"test: {n} {i}" for n in range(8) for i in range(100)
    )


@pytest.mark.parametrize(
    "check",
    [
        lines_come_out_once_in_order_with_their_level,
        lines_below_the_level_are_dropped,
        the_ring_is_bounded_and_counts_what_it_lost,
        a_very_long_line_is_cut,
        a_pump_hands_over_every_line_up_to_its_close,
        writers_in_many_threads_lose_nothing,
    ],
    ids=lambda check: check.__name__,
)
def test_ring(alone: Callable[..., None], check: Callable[[], None]) -> None:
    alone(check)
