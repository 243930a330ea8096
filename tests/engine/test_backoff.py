"""How long a dead worker's replacement waits."""

from __future__ import annotations

from shimmy.engine.backoff import MAX_SECONDS, Backoff


def test_the_first_restart_is_at_once_and_later_ones_wait_longer() -> None:
    backoff = Backoff()
    delays = [backoff.next_delay() for _ in range(4)]
    assert delays[0] == 0
    assert delays == sorted(delays)
    assert delays[3] > delays[2] > delays[1] > 0


def test_the_wait_is_bounded() -> None:
    backoff = Backoff()
    assert [backoff.next_delay() for _ in range(50)][-1] == MAX_SECONDS


def test_an_answered_request_starts_it_over() -> None:
    backoff = Backoff()
    backoff.next_delay()
    backoff.next_delay()
    backoff.worked()
    assert backoff.next_delay() == 0
