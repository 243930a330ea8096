"""Rows with different adapters: never in one step, each set in its turn. No model, no thread."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest

from shimmy.engine.types.event import Delta, Finished
from shimmy.worker.checkpoints import Checkpoints
from shimmy.worker.host_cache import HostCache, names
from shimmy.worker.job import Job
from shimmy.worker.lora_set import NO_LORAS, LoraSet, lora_set, salt
from shimmy.worker.prefix import PrefixIndex, Sharing
from shimmy.worker.resident import Resident, prefix_key
from shimmy.worker.rotation import TURN
from shimmy.worker.scheduler import Scheduler
from tests.worker.test_loop import FakeRunner, Harness

A: LoraSet = ((0, 1.0),)
B: LoraSet = ((0, 0.5), (1, 1.0))


def make(n_slots: int = 8, n_cells: int = 4096, n_batch: int = 64, n_bite: int = 16) -> Scheduler:
    return Scheduler(
        PrefixIndex(256), n_slots=n_slots, n_cells=n_cells, n_batch=n_batch, n_bite=n_bite
    )


def job(number: int, n_tokens: int, loras: LoraSet) -> Job:
    return Job(number, [1000 + number] * n_tokens, loras=loras)


def step(scheduler: Scheduler, jobs: list[Job]) -> LoraSet:
    """Run a step as the loop does; all of its rows must have the plan's adapters."""
    plan = scheduler.plan()
    by_slot = {one.slot: one for one in jobs if one.slot is not None}
    assert plan.bites
    assert {by_slot[slot].loras for slot, _ in plan.bites} == {plan.loras}
    waiting = {slot: by_slot[slot].n_waiting for slot, _ in plan.bites}
    scheduler.commit(plan.bites, [(slot, 7) for slot, n in plan.bites if n == waiting[slot]])
    return plan.loras


def test_a_set_has_no_scale_of_0_and_knows_no_order() -> None:
    assert lora_set([(1, 1), (0, 0.5), (2, 0.0)]) == B
    assert salt(NO_LORAS) == b""
    assert salt(A) != salt(B)


def test_rows_of_one_set_run_together_whatever_it_is() -> None:
    scheduler = make()
    jobs = [job(i, 4, A) for i in range(3)]
    for one in jobs:
        scheduler.submit(one)
    plan = scheduler.plan()
    assert plan.loras == A
    assert len(plan.bites) == 3


def test_each_set_has_its_turn_and_the_same_number_of_steps() -> None:
    scheduler = make()
    jobs = [job(i, 4, loras) for i, loras in enumerate([NO_LORAS, A, B, A])]
    for one in jobs:
        scheduler.submit(one)
    turns = [step(scheduler, jobs) for _ in range(3)]
    assert set(turns) == {NO_LORAS, A, B}, "a step with prompts ends the turn"
    turns = [step(scheduler, jobs) for _ in range(6 * TURN)]
    assert {loras: turns.count(loras) for loras in set(turns)} == dict.fromkeys(
        (NO_LORAS, A, B), 2 * TURN
    )
    n_switches = sum(left != right for left, right in pairwise(turns))
    assert n_switches <= 6


def test_a_set_that_comes_and_goes_starves_nobody() -> None:
    scheduler = make()
    steady = job(0, 4, A)
    jobs = [steady]
    scheduler.submit(steady)
    for number in range(1, 40):
        short = job(number, 4, B)
        jobs.append(short)
        scheduler.submit(short)
        for _ in range(3):
            step(scheduler, jobs)
        if short.slot is not None:
            scheduler.remove(short)
    assert steady.n_tokens > 4 + 20


def test_a_long_prompt_of_one_set_does_not_freeze_rows_of_another() -> None:
    scheduler = make(n_batch=1024, n_bite=16)
    generating, long = job(1, 4, NO_LORAS), job(2, 900, A)
    scheduler.submit(generating)
    step(scheduler, [generating])
    scheduler.submit(long)
    before = generating.n_tokens
    for _ in range(2 * TURN):
        plan = scheduler.plan()
        assert sum(n for _, n in plan.bites) <= 16
        assert plan.busy
        waiting = {one.slot: one.n_waiting for one in (generating, long)}
        scheduler.commit(plan.bites, [(slot, 7) for slot, n in plan.bites if n == waiting[slot]])
    assert generating.n_tokens >= before + TURN


@pytest.mark.parametrize("sharing", list(Sharing))
def test_cells_are_of_use_to_the_same_set_only(sharing: Sharing) -> None:
    index = PrefixIndex(8, sharing=sharing)
    tokens = [1, 2, 3, 4]
    first = index.place(prefix_key(tokens), A)
    index.extend(first.seq_id, tokens)
    index.rest(first.seq_id)
    key = prefix_key([*tokens, 5])
    assert index.n_shared(key, A) == 4
    assert index.n_shared(key, B) == index.n_shared(key) == 0
    other = index.place(key, B)
    assert (other.n_shared, other.source) == (0, None)
    assert other.seq_id != first.seq_id
    assert index.faults() == []


def test_a_prompt_does_not_wait_for_one_whose_cells_it_cannot_use() -> None:
    scheduler = make(n_batch=64)
    long = Job(1, [5] * 500, loras=A)
    scheduler.submit(long)
    scheduler.plan()
    same, other = Job(2, [5] * 499 + [6], loras=A), Job(3, [5] * 499 + [6], loras=B)
    scheduler.submit(same)
    scheduler.submit(other)
    scheduler.plan()
    assert same.slot is None
    assert other.slot is not None


def test_blocks_in_host_memory_have_other_names_for_other_sets() -> None:
    tokens = prefix_key([1] * 65)
    assert not set(names(tokens, 16, A)) & set(names(tokens, 16, B))
    assert not set(names(tokens, 16, A)) & set(names(tokens, 16))
    assert list(names(tokens, 16)) == list(names(tokens, 16, NO_LORAS))


class OneState:
    """Cells whose state is always the same."""

    def size(self, _seq_id: int) -> int:
        return 64

    def save(self, _seq_id: int) -> np.ndarray:
        return np.zeros(64, np.uint8)


def test_states_in_host_memory_are_of_use_to_the_same_set_only() -> None:
    key = prefix_key([1] * 65)
    resident = Resident(1, running=False, used=0, tokens=bytearray(key), loras=A)
    checkpoints = Checkpoints(HostCache(1 << 20), OneState())  # type: ignore[arg-type]
    checkpoints.save(resident)
    assert checkpoints.n_saved(key, A) == 64
    assert checkpoints.n_saved(key, B) == checkpoints.n_saved(key) == 0
    checkpoints.forget(resident)
    assert checkpoints.n_saved(key, A) == 0


@dataclass
class SwitchingRunner(FakeRunner):
    """Notes the switches; a step with rows of another set than the context's is a fault."""

    used: list[LoraSet] = field(default_factory=list)

    def use(self, loras: LoraSet) -> None:
        self.used.append(loras)

    def step(self, bites, *, ahead):  # type: ignore[no-untyped-def]
        current = self.used[-1] if self.used else NO_LORAS
        assert all(self.rows[slot].task.job.loras == current for slot, _ in bites)
        return super().step(bites, ahead=ahead)


def test_the_loop_switches_between_steps_and_only_when_the_set_changes() -> None:
    runner = SwitchingRunner(n_words=3 * TURN)
    harness = Harness(runner)
    for number, loras in enumerate([NO_LORAS, A, NO_LORAS, A]):
        harness.add(number).job.loras = loras
    harness.run_until(lambda: harness.scheduler.idle)
    assert all(isinstance(harness.events[n][-1], Finished) for n in range(4))
    assert runner.used[:2] == [A, NO_LORAS]
    assert all(left != right for left, right in pairwise(runner.used))
    assert len(runner.used) <= 12


def test_without_adapters_nothing_is_ever_switched() -> None:
    runner = SwitchingRunner()
    harness = Harness(runner)
    for number in range(3):
        harness.add(number)
    harness.run_until(lambda: harness.scheduler.idle)
    assert runner.used == []


def test_sets_that_do_not_fit_together_all_come_to_their_end() -> None:
    runner = SwitchingRunner(n_words=80, n_cells=180)
    harness = Harness(runner)
    for number in range(6):
        harness.add(number, n_tokens=20).job.loras = (NO_LORAS, A, B)[number % 3]
    harness.run_until(lambda: harness.scheduler.idle)
    assert all(isinstance(harness.events[n][-1], Finished) for n in range(6))
    texts = {"".join(e.text for e in harness.events[n] if isinstance(e, Delta)) for n in range(6)}
    assert len(texts) == 1
    assert runner.n_full > 0
