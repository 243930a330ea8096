"""The scheduler alone: no model, no thread, no clock."""

from __future__ import annotations

import pytest

from shimmy.worker.job import Admit, Evict, Job, Plan, Rewind
from shimmy.worker.portions import BITE_SECONDS, FIRST_BITE, MIN_BITE, TILE
from shimmy.worker.prefix import PrefixIndex, Sharing
from shimmy.worker.scheduler import HEADROOM, Scheduler


def make(
    n_slots: int = 4,
    n_cells: int = 1024,
    n_batch: int = 64,
    n_bite: int = 16,
    *,
    sharing: Sharing = Sharing.CELLS,
) -> Scheduler:
    index = PrefixIndex(256, sharing=sharing)
    return Scheduler(index, n_slots=n_slots, n_cells=n_cells, n_batch=n_batch, n_bite=n_bite)


def job(number: int, n_tokens: int) -> Job:
    """A job whose prompt begins like no other's."""
    return Job(number, [1000 + number] * n_tokens)


def admitted(plan: Plan) -> list[int]:
    return [action.job.id for action in plan.actions if isinstance(action, Admit)]


def evicted(plan: Plan) -> list[int]:
    return [action.seq_id for action in plan.actions if isinstance(action, Evict)]


def generate(scheduler: Scheduler, *jobs: Job) -> None:
    """Feed the jobs' prompts and give each a first token; no others may run."""
    for _ in range(100):
        if all(job.generating for job in jobs):
            return
        bites = scheduler.plan().bites
        waiting = {job.slot: job.n_waiting for job in jobs}
        scheduler.commit(bites, [(slot, 7) for slot, n in bites if n == waiting[slot]])
    raise AssertionError("the prompts were not taken in")


def test_an_empty_scheduler_plans_nothing() -> None:
    scheduler = make()
    assert scheduler.idle
    assert scheduler.plan().bites == []


def test_a_prompt_longer_than_the_batch_is_fed_in_several_steps() -> None:
    scheduler = make(n_batch=64)
    long = job(1, 150)
    scheduler.submit(long)
    fed = []
    while long.n_waiting:
        bites = scheduler.plan().bites
        fed += [n for _, n in bites]
        scheduler.commit(bites, [])
    assert fed == [64, 64, 22]


def test_a_job_joins_while_another_generates() -> None:
    scheduler = make()
    first, second = job(1, 5), job(2, 5)
    scheduler.submit(first)
    generate(scheduler, first)
    scheduler.submit(second)
    assert dict(scheduler.plan().bites) == {first.slot: 1, second.slot: 5}


def test_a_long_prompt_gets_small_bites_while_another_row_generates() -> None:
    scheduler = make(n_batch=64, n_bite=16)
    first, second = job(1, 5), job(2, 500)
    scheduler.submit(first)
    generate(scheduler, first)
    scheduler.submit(second)
    assert dict(scheduler.plan().bites) == {first.slot: 1, second.slot: 16}


def test_prompts_share_the_batch_and_a_short_one_leaves_its_rest_to_the_long_one() -> None:
    scheduler = make(n_batch=64)
    long, short = job(1, 500), job(2, 10)
    scheduler.submit(long)
    scheduler.submit(short)
    assert dict(scheduler.plan().bites) == {long.slot: 54, short.slot: 10}


def test_more_jobs_than_slots_wait_in_order() -> None:
    scheduler = make(n_slots=2)
    jobs = [job(i, 4) for i in range(4)]
    for one in jobs:
        scheduler.submit(one)
    assert admitted(scheduler.plan()) == [0, 1]
    assert scheduler.n_waiting == 2
    scheduler.remove(jobs[0])
    assert admitted(scheduler.plan()) == [2]


def test_a_job_waits_until_its_prompt_fits_the_cells() -> None:
    scheduler = make(n_cells=200)
    first, second = job(1, 100), job(2, 100)
    scheduler.submit(first)
    scheduler.submit(second)
    assert admitted(scheduler.plan()) == [1]
    scheduler.remove(first)
    assert admitted(scheduler.plan()) == [2]


def test_the_youngest_row_is_preempted_and_resumed_before_a_new_one_is_admitted() -> None:
    scheduler = make(n_cells=4 * HEADROOM)
    old, young = job(1, 20), job(2, 20)
    scheduler.submit(old)
    scheduler.submit(young)
    generate(scheduler, old, young)
    assert scheduler.pause() == Rewind(young)
    assert young.n_past == 0
    old.tokens += [7] * (3 * HEADROOM - old.n_tokens)
    scheduler.submit(job(3, 4))
    plan = scheduler.plan()
    assert admitted(plan) == []
    assert old.slot in [slot for slot, _ in plan.bites]
    assert young.slot not in [slot for slot, _ in plan.bites]
    scheduler.remove(old)
    plan = scheduler.plan()
    assert (young.slot, young.n_tokens) in plan.bites


def test_a_row_alone_is_never_preempted() -> None:
    scheduler = make()
    scheduler.submit(job(1, 4))
    scheduler.plan()
    assert scheduler.make_room([(0, 4)]) == []
    assert scheduler.pause() is None


def test_a_request_waits_while_a_session_has_the_only_sequence() -> None:
    index = PrefixIndex(1, sharing=Sharing.WHOLE)
    scheduler = Scheduler(index, n_slots=1, n_cells=None, n_batch=64, n_bite=16)
    session = index.open()
    scheduler.submit(job(1, 4))
    assert scheduler.plan() == Plan()
    index.drop(session)
    assert admitted(scheduler.plan()) == [1]


@pytest.mark.parametrize("running", [False, True])
def test_a_removed_job_leaves_nothing_behind(running: bool) -> None:
    scheduler = make(n_slots=1)
    first = job(1, 4)
    scheduler.submit(first)
    if running:
        scheduler.plan()
    scheduler.remove(first)
    assert scheduler.idle
    scheduler.submit(job(2, 4))
    assert len(admitted(scheduler.plan())) == 1


def test_every_waiting_prompt_is_fed_in_each_step_even_when_the_bite_is_small() -> None:
    scheduler = make(n_slots=4, n_batch=64, n_bite=4)
    jobs = [job(i, 100) for i in range(4)]
    for one in jobs:
        scheduler.submit(one)
    scheduler.commit(scheduler.plan().bites, [])
    assert all(one.n_past > 0 for one in jobs)


def run(scheduler: Scheduler, prompt: list[int], number: int) -> tuple[Job, Plan]:
    """Run a prompt to its first token; return the job and the plan that admitted it."""
    one = Job(number, list(prompt))
    scheduler.submit(one)
    first = scheduler.plan()
    bites = first.bites
    while one.n_waiting:
        mine = [(slot, n) for slot, n in bites if slot == one.slot]
        scheduler.commit(mine, [])
        bites = scheduler.plan().bites if one.n_waiting else []
    scheduler.commit([], [(one.slot, 7)])
    return one, first


def placement(plan: Plan):
    (admit,) = [action for action in plan.actions if isinstance(action, Admit)]
    return admit.placement


def test_a_prompt_shares_the_prefix_of_a_running_row() -> None:
    scheduler = make(n_slots=4, n_batch=512)
    system = list(range(100))
    first, _ = run(scheduler, [*system, 500], 1)
    second, plan = run(scheduler, [*system, 600, 601], 2)
    assert placement(plan).source == first.seq_id
    assert placement(plan).n_shared == 100
    assert plan.bites == [(first.slot, 1), (second.slot, 2)]


def test_a_finished_conversation_is_continued_in_its_own_sequence() -> None:
    scheduler = make(n_batch=512)
    first, _ = run(scheduler, list(range(50)), 1)
    scheduler.remove(first)
    again, plan = run(scheduler, [*range(50), 7, 8, 9], 2)
    assert placement(plan).source is None
    assert placement(plan).n_shared == 50
    assert again.seq_id == first.seq_id


def test_the_same_prompt_again_still_feeds_its_last_token() -> None:
    scheduler = make(n_batch=512)
    first, _ = run(scheduler, list(range(50)), 1)
    _, plan = run(scheduler, list(range(50)), 2)
    assert placement(plan).n_shared == 49
    assert first.n_shared == 0


def test_rows_that_share_a_long_prompt_fit_where_their_sums_would_not() -> None:
    scheduler = make(n_slots=8, n_cells=1024, n_batch=2048)
    system = list(range(600))
    for number in range(5):
        run(scheduler, [*system, 700 + number], number)
    assert scheduler.n_running == 5
    assert scheduler.n_waiting == 0


def test_idle_sequences_make_way_for_running_ones_the_longest_unused_first() -> None:
    scheduler = make(n_slots=1, n_cells=400, n_batch=512)
    order = []
    for number in range(4):
        one, plan = run(scheduler, [1000 * (number + 1)] * 90, number)
        order += evicted(plan)
        scheduler.remove(one)
    big, plan = run(scheduler, [9] * 350, 9)
    order += evicted(plan)
    assert big.n_shared == 0
    assert order == sorted(order)
    assert len(order) >= 3


def test_idle_sequences_hold_at_most_half_of_the_cells() -> None:
    scheduler = make(n_slots=1, n_cells=400, n_batch=512)
    for number in range(6):
        one, _ = run(scheduler, [1000 * (number + 1)] * 90, number)
        scheduler.remove(one)
    scheduler.plan()
    assert scheduler._index.n_idle_cells <= 200
    assert scheduler._index.faults() == []


def test_a_row_that_could_not_be_opened_leaves_its_sequence_free() -> None:
    scheduler = make()
    one = job(1, 20)
    scheduler.submit(one)
    scheduler.plan()
    assert scheduler.remove(one, keep=False) == one.seq_id
    assert scheduler._index.n_cells == 0


def test_prompts_that_arrive_together_wait_for_the_first_to_take_in_what_they_share() -> None:
    scheduler = make(n_slots=4, n_batch=64)
    system = list(range(200))
    jobs = [Job(number, [*system, 300 + number]) for number in range(4)]
    for one in jobs:
        scheduler.submit(one)
    other = Job(9, [900] * 10)
    scheduler.submit(other)
    fed = 0
    for _ in range(50):
        plan = scheduler.plan()
        fed += sum(n for _, n in plan.bites)
        running = {one.slot: one for one in [*jobs, other] if one.slot is not None}
        done = [(slot, 7) for slot, n in plan.bites if running[slot].n_waiting == n]
        scheduler.commit(plan.bites, done)
        for slot, _ in done:
            scheduler.remove(running[slot])
        if scheduler.idle:
            break
    assert scheduler.idle
    assert [one.n_shared for one in jobs] == [0, 200, 200, 200]
    assert fed == 201 + 3 + 10


def test_a_slow_model_takes_smaller_bites_of_a_prompt_while_others_generate() -> None:
    scheduler = make(n_batch=1024, n_bite=512, n_cells=8192)
    running, long = job(1, 5), job(2, 4000)
    scheduler.submit(running)
    generate(scheduler, running)
    scheduler.submit(long)
    # the row that generates is one of the tile's
    assert dict(scheduler.plan().bites)[long.slot] == FIRST_BITE - 1
    scheduler.observe([(0, 100)], 100 * BITE_SECONDS / 200)
    assert dict(scheduler.plan().bites)[long.slot] == 3 * TILE - 1
    for _ in range(30):
        scheduler.observe([(0, 100)], 100.0)
    assert dict(scheduler.plan().bites)[long.slot] == MIN_BITE
    for _ in range(60):
        scheduler.observe([(0, 100)], 0.001)
    assert dict(scheduler.plan().bites)[long.slot] == 512


def test_bites_that_look_dear_because_they_are_small_grow_to_a_tile() -> None:
    scheduler = make(n_batch=1024, n_bite=512, n_cells=8192)
    running, long = job(1, 5), job(2, 4000)
    scheduler.submit(running)
    generate(scheduler, running)
    scheduler.submit(long)
    scheduler.observe([(0, 100)], 100 * BITE_SECONDS / 40)
    assert dict(scheduler.plan().bites)[long.slot] == TILE - 1


def test_a_prompt_alone_takes_the_whole_batch_however_slow_the_model_is() -> None:
    scheduler = make(n_batch=1024, n_bite=512, n_cells=8192)
    scheduler.observe([(0, 100)], 100.0)
    long = job(1, 4000)
    scheduler.submit(long)
    assert dict(scheduler.plan().bites)[long.slot] == 1024


def test_steps_that_only_generate_say_nothing_about_the_speed_of_prompts() -> None:
    scheduler = make(n_batch=1024, n_bite=512, n_cells=8192)
    scheduler.observe([(0, 1), (1, 1)], 100.0)
    assert scheduler._portions._token_seconds is None


class FakeStore:
    """Says that the first 64 tokens of every prompt are in host memory."""

    def __init__(self, n_saved: int = 64, marks: tuple[int, ...] = ()) -> None:
        self.saved = n_saved
        self.at = marks

    def n_saved(self, key: bytes, loras: object) -> int:
        return min(self.saved, len(key) // 4)

    def marks(self, n_prompt: int) -> list[int]:
        return list(self.at)


def with_store(store: FakeStore, **sizes: int) -> Scheduler:
    limits = {"n_slots": 4, "n_cells": 1024, "n_batch": 64, "n_bite": 16} | sizes
    return Scheduler(PrefixIndex(256), **limits, store=store)


def test_a_row_is_not_fed_while_its_tokens_come_from_host_memory() -> None:
    scheduler = with_store(FakeStore(), n_batch=512)
    one = job(1, 100)
    scheduler.submit(one)
    assert scheduler.plan().bites == []
    assert scheduler.fetching == [one]
    scheduler.fetched(one, 32)
    assert scheduler.plan().bites == []
    scheduler.fetched(one, 64)
    assert scheduler.fetching == []
    assert scheduler.plan().bites == [(one.slot, 36)]
    assert one.n_shared == 64
    assert scheduler._index.n_cells == 64


def test_what_host_memory_lacks_after_all_is_computed() -> None:
    scheduler = with_store(FakeStore(), n_batch=512)
    one = job(1, 100)
    scheduler.submit(one)
    scheduler.plan()
    one.n_fetch = one.n_past
    scheduler.fetched(one, one.n_past)
    assert scheduler.plan().bites == [(one.slot, 100)]


def test_a_few_tokens_are_not_worth_fetching() -> None:
    scheduler = with_store(FakeStore(n_saved=16), n_batch=512)
    one = job(1, 100)
    scheduler.submit(one)
    assert scheduler.plan().bites == [(one.slot, 100)]


def test_room_is_made_for_what_is_fetched() -> None:
    scheduler = with_store(FakeStore(), n_cells=400, n_batch=512)
    scheduler._store = None
    for number in range(2):
        one, _ = run(scheduler, [1000 * (number + 1)] * 150, number)
        scheduler.remove(one)
    scheduler._store = FakeStore(n_saved=192)
    scheduler.submit(job(9, 200))
    assert evicted(scheduler.plan())


def test_a_prompt_stops_at_each_of_its_marks_once() -> None:
    scheduler = with_store(FakeStore(n_saved=0, marks=(20, 50)), n_batch=512)
    one = job(1, 100)
    scheduler.submit(one)
    for n_tokens in (20, 30):
        bites = scheduler.plan().bites
        assert bites == [(one.slot, n_tokens)]
        scheduler.commit(bites, [])
        assert scheduler.take_marked() == [one]
        assert scheduler.take_marked() == []
    assert scheduler.plan().bites == [(one.slot, 50)]


def test_a_prompt_that_stops_somewhere_stops_too_where_one_that_waits_parts_from_it() -> None:
    scheduler = with_store(FakeStore(n_saved=0, marks=(90,)), n_batch=40)
    one, other = Job(1, [*range(100)]), Job(2, [*range(70), *range(500, 530)])
    scheduler.submit(one)
    scheduler.submit(other)
    assert admitted(scheduler.plan()) == [1]
    assert one.marks == [70, 90]


def test_with_cells_of_their_own_rows_do_not_wait_for_each_other() -> None:
    index = PrefixIndex(2, sharing=Sharing.CUT)
    scheduler = Scheduler(index, n_slots=2, n_cells=None, n_batch=512, n_bite=64)
    for number in range(2):
        scheduler.submit(job(number, 10_000))
    assert admitted(scheduler.plan()) == [0, 1]


def test_with_cells_of_their_own_an_id_is_freed_for_a_new_prompt() -> None:
    index = PrefixIndex(1, sharing=Sharing.WHOLE)
    scheduler = Scheduler(index, n_slots=1, n_cells=None, n_batch=512, n_bite=64)
    one, _ = run(scheduler, [1] * 20, 1)
    scheduler.remove(one)
    _, plan = run(scheduler, [2] * 20, 2)
    assert evicted(plan) == [0]


def test_a_slot_knows_what_its_last_request_left_until_that_is_used_or_evicted() -> None:
    scheduler = make(n_slots=1, n_batch=512, n_cells=400)
    one, _ = run(scheduler, list(range(50)), 1)
    slot = one.slot
    assert slot is not None
    assert scheduler.left(slot) is None
    scheduler.remove(one)
    left = scheduler.left_resident(slot)
    assert left is not None
    assert left.tokens == one.key + (49).to_bytes(4, "little")
    again, _ = run(scheduler, [*range(50), 60, 61], 2)
    scheduler.remove(again)
    left = scheduler.left_resident(slot)
    assert left is not None
    assert left.n_tokens == 52
    big, _ = run(scheduler, [9] * 390, 3)
    scheduler.remove(big, keep=False)
    assert scheduler.left(slot) is None


def test_a_preempted_row_forgets_what_was_to_be_fetched() -> None:
    scheduler = with_store(FakeStore(), n_batch=512)
    old, young = job(1, 20), job(2, 100)
    scheduler.submit(old)
    scheduler.submit(young)
    scheduler.plan()
    assert scheduler.fetching == [young]
    assert scheduler.pause() == Rewind(young)
    assert scheduler.fetching == []
    scheduler.remove(young)
    assert scheduler.plan().bites == [(old.slot, 20)]
    assert scheduler._paused == []
