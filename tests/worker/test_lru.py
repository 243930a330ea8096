"""What is kept of what was made last, within bounds."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from shimmy.worker.lru import Lru


def test_what_was_kept_is_found() -> None:
    kept: Lru[int] = Lru(2, 100)
    assert kept.find(b"a") is None
    kept.keep(b"a", 1)
    assert kept.find(b"a") == 1


def test_what_was_not_used_for_the_longest_time_goes() -> None:
    kept: Lru[int] = Lru(2, 100)
    kept.keep(b"a", 1)
    kept.keep(b"b", 2)
    kept.find(b"a")
    kept.keep(b"c", 3)
    assert [kept.find(key) for key in (b"a", b"b", b"c")] == [1, None, 3]


def test_the_bytes_are_bounded() -> None:
    kept: Lru[int] = Lru(100, 10)
    for i in range(9):
        kept.keep(b"%d234" % i, i)
    found = [i for i in range(9) if kept.find(b"%d234" % i) is not None]
    assert found == [7, 8]


def test_what_is_larger_than_all_is_not_kept() -> None:
    kept: Lru[int] = Lru(100, 10)
    kept.keep(b"x" * 11, 1)
    assert kept.find(b"x" * 11) is None
    kept.keep(b"x" * 10, 1)
    assert kept.find(b"x" * 10) == 1


def test_a_name_that_is_kept_twice_counts_once() -> None:
    kept: Lru[int] = Lru(2, 4)
    for value in range(5):
        kept.keep(b"a", value)
        kept.keep(b"bcd", value)
    assert (kept.find(b"a"), kept.find(b"bcd")) == (4, 4)


def test_threads() -> None:
    kept: Lru[int] = Lru(8, 16)

    def use(i: int) -> None:
        kept.keep(b"%d" % (i % 20), i)
        kept.find(b"%d" % (i % 7))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(use, range(2000)))
    assert sum(kept.find(b"%d" % i) is not None for i in range(20)) <= 8
