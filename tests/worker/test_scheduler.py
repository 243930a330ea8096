"""The scheduler alone: no model, no thread, no clock."""

from __future__ import annotations

import pytest

from shimmy.worker.scheduler import HEADROOM, Job, Scheduler


def make(n_slots: int = 4, n_cells: int = 1024, n_batch: int = 64, n_bite: int = 16) -> Scheduler:
    return Scheduler(n_slots=n_slots, n_cells=n_cells, n_batch=n_batch, n_bite=n_bite)


def generate(scheduler: Scheduler, *jobs: Job) -> None:
    """Feed the jobs' prompts and give each a first token; no others may run."""
    for _ in range(100):
        if all(job.generating for job in jobs):
            return
        bites = scheduler.plan().bites
        waiting = {job.slot: job.n_waiting for job in jobs}
        scheduler.commit(bites, [slot for slot, n in bites if n == waiting[slot]])
    raise AssertionError("the prompts were not taken in")


def test_an_empty_scheduler_plans_nothing() -> None:
    scheduler = make()
    assert scheduler.idle
    assert scheduler.plan().bites == []


def test_a_prompt_longer_than_the_batch_is_fed_in_several_steps() -> None:
    scheduler = make(n_batch=64)
    job = Job(1, n_tokens=150)
    scheduler.submit(job)
    fed = []
    while job.n_waiting:
        bites = scheduler.plan().bites
        fed += [n for _, n in bites]
        scheduler.commit(bites, [])
    assert fed == [64, 64, 22]


def test_a_job_joins_while_another_generates() -> None:
    scheduler = make()
    first, second = Job(1, n_tokens=5), Job(2, n_tokens=5)
    scheduler.submit(first)
    generate(scheduler, first)
    scheduler.submit(second)
    assert dict(scheduler.plan().bites) == {first.slot: 1, second.slot: 5}


def test_a_long_prompt_gets_small_bites_while_another_row_generates() -> None:
    scheduler = make(n_batch=64, n_bite=16)
    first, second = Job(1, n_tokens=5), Job(2, n_tokens=500)
    scheduler.submit(first)
    generate(scheduler, first)
    scheduler.submit(second)
    assert dict(scheduler.plan().bites) == {first.slot: 1, second.slot: 16}


def test_prompts_share_the_batch_and_a_short_one_leaves_its_rest_to_the_long_one() -> None:
    scheduler = make(n_batch=64)
    long, short = Job(1, n_tokens=500), Job(2, n_tokens=10)
    scheduler.submit(long)
    scheduler.submit(short)
    assert dict(scheduler.plan().bites) == {long.slot: 54, short.slot: 10}


def test_more_jobs_than_slots_wait_in_order() -> None:
    scheduler = make(n_slots=2)
    jobs = [Job(i, n_tokens=4) for i in range(4)]
    for job in jobs:
        scheduler.submit(job)
    assert [job.id for job in scheduler.plan().admitted] == [0, 1]
    assert scheduler.n_waiting == 2
    scheduler.remove(jobs[0])
    assert [job.id for job in scheduler.plan().admitted] == [2]


def test_a_job_waits_until_its_prompt_fits_the_cells() -> None:
    scheduler = make(n_cells=200)
    first, second = Job(1, n_tokens=100), Job(2, n_tokens=100)
    scheduler.submit(first)
    scheduler.submit(second)
    assert [job.id for job in scheduler.plan().admitted] == [1]
    scheduler.remove(first)
    assert [job.id for job in scheduler.plan().admitted] == [2]


def test_the_youngest_row_is_preempted_and_resumed_before_a_new_one_is_admitted() -> None:
    scheduler = make(n_cells=4 * HEADROOM)
    old, young = Job(1, n_tokens=20), Job(2, n_tokens=20)
    scheduler.submit(old)
    scheduler.submit(young)
    generate(scheduler, old, young)
    assert scheduler.preempt() is young
    assert young.n_past == 0
    old.n_tokens = 3 * HEADROOM
    scheduler.submit(Job(3, n_tokens=4))
    plan = scheduler.plan()
    assert plan.admitted == []
    assert [slot for slot, _ in plan.bites] == [old.slot]
    scheduler.remove(old)
    plan = scheduler.plan()
    assert (young.slot, young.n_tokens) in plan.bites


def test_a_row_alone_is_never_preempted() -> None:
    scheduler = make()
    job = Job(1, n_tokens=4)
    scheduler.submit(job)
    scheduler.plan()
    assert scheduler.preempt() is None


@pytest.mark.parametrize("running", [False, True])
def test_a_removed_job_leaves_nothing_behind(running: bool) -> None:
    scheduler = make(n_slots=1)
    job = Job(1, n_tokens=4)
    scheduler.submit(job)
    if running:
        scheduler.plan()
    scheduler.remove(job)
    assert scheduler.idle
    scheduler.submit(Job(2, n_tokens=4))
    assert len(scheduler.plan().admitted) == 1


def test_every_waiting_prompt_is_fed_in_each_step_even_when_the_bite_is_small() -> None:
    scheduler = make(n_slots=4, n_batch=64, n_bite=4)
    jobs = [Job(i, n_tokens=100) for i in range(4)]
    for job in jobs:
        scheduler.submit(job)
    scheduler.commit(scheduler.plan().bites, [])
    assert all(job.n_past > 0 for job in jobs)
