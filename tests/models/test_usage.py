from __future__ import annotations

from shimmy.models.usage import WINDOW, Usage


def test_the_rate_counts_the_last_minute_and_the_total_everything():
    now = 1000.0
    usage = Usage(now=lambda: now, clock=lambda: 5.0)
    assert (usage.n_requests, usage.per_minute, usage.last_used) == (0, 0, None)
    for _ in range(3):
        usage.count()
    now += 30
    usage.count()
    assert (usage.n_requests, usage.per_minute, usage.last_used) == (4, 4, 5.0)
    now += 31
    assert (usage.n_requests, usage.per_minute) == (4, 1)
    now += WINDOW
    assert usage.per_minute == 0


def test_a_busy_model_is_remembered_by_the_second_not_by_the_request():
    usage = Usage(now=lambda: 7.0)
    for _ in range(10_000):
        usage.count()
    assert usage.per_minute == 10_000
    assert len(usage._seconds) == 1
