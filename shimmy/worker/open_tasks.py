"""The tasks that were added and have not ended: which row each has, what it has to tell, and how it ends."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from shimmy.engine.types.event import Event, Failed
from shimmy.errors import DeadlineError, InvalidRequestError, ShimmyError
from shimmy.llama.stepper import Finish, RowEvent
from shimmy.worker.deadlines import Deadlines

if TYPE_CHECKING:
    from shimmy.worker.prefix import Placement
    from shimmy.worker.runner import Runner
    from shimmy.worker.scheduler import Scheduler
    from shimmy.worker.task import Task


class OpenTasks:
    """The engine thread's, but for `expect` and `n_open`.

    What ends a task ends its row and its place in the scheduler with it.
    """

    def __init__(self, scheduler: Scheduler, runner: Runner) -> None:
        """Begin without any."""
        self._scheduler = scheduler
        self._runner = runner
        self._by_id: dict[int, Task] = {}
        self._by_slot: dict[int, Task] = {}
        self._deadlines = Deadlines()
        self._told: list[tuple[int, Event]] = []
        # Each is written by one thread at a time: whoever adds, and the engine's.
        self._n_expected = 0
        self._n_ended = 0

    @property
    def n_open(self) -> int:
        """Tasks that are expected or here. Thread: any."""
        return self._n_expected - self._n_ended

    def expect(self) -> None:
        """Count a task that is on its way. Thread: any, one at a time."""
        self._n_expected += 1

    def add(self, task: Task) -> None:
        """Let a task wait for its slot. A step may be in flight."""
        self._by_id[task.job.id] = task
        self._scheduler.submit(task.job)
        if task.deadline is not None:
            self._deadlines.add(task.job.id, task.deadline)

    def get(self, job_id: int) -> Task | None:
        """Return a task, if it has not ended."""
        return self._by_id.get(job_id)

    def at(self, slot: int) -> Task | None:
        """Return the task whose row a slot has."""
        return self._by_slot.get(slot)

    def take_told(self) -> list[tuple[int, Event]]:
        """Return the events of all requests since the last time, by request."""
        told, self._told = self._told, []
        return told

    def start(self, slot: int, task: Task, placement: Placement, now: float) -> None:
        """Open the task's row; a request that cannot start fails alone."""
        task.clock.started = now
        try:
            self._runner.open(slot, task, placement)
        except ShimmyError as error:
            self.fail(task, Failed.of(error))
            return
        self._by_slot[slot] = task

    def deliver(self, event: RowEvent, now: float) -> None:
        """Tell what came of a row in a step."""
        task = self._by_slot.get(event.row)
        if task is None:
            return  # its request failed with another choice in this very step
        if event.finish is Finish.GRAMMAR:
            error = InvalidRequestError(event.text, param=task.grammar_field)
            self.fail(task, Failed.of(error))
            return
        if event.finish is Finish.ERROR:
            self.fail(task, Failed(code=ShimmyError.code, message=event.text))
            return
        if event.finish is Finish.SHIFT:
            self._shift(task, event.row)
            event = replace(event, finish=Finish.NONE)
        self._told.extend((task.request_id, out) for out in task.events(event, now))
        if event.finish is not Finish.NONE:
            self._end(task)

    def is_due(self, now: float) -> bool:
        """Whether the time of a task is over."""
        return self._deadlines.is_due(now)

    def expire(self, now: float) -> None:
        """End the tasks whose time is over: those that wait fail, those that run are cut off."""
        for job_id in self._deadlines.take_due(now):
            task = self._by_id.get(job_id)
            if task is None:
                continue
            if task.job.slot is not None:
                self.cut_off(task, Finish.LIMIT)
                continue
            error = DeadlineError(
                "the request's timeout was over before it had a slot: try again later"
            )
            self.fail(task, Failed.of(error))

    def cut_off(self, task: Task, why: Finish) -> None:
        """End a running task with what it has."""
        job = task.job
        if job.slot is not None:
            n_generated = job.n_tokens + job.n_discarded - task.n_prompt
            text = self._runner.flush(job.slot)
            self.deliver(RowEvent(job.slot, None, n_generated, why, None, text), time.monotonic())

    def fail(self, task: Task, failure: Failed) -> None:
        """End a task's request, all its choices, with `failure`."""
        self._told.append((task.request_id, failure))
        self.drop(task.request_id)

    def drop(self, request_id: int) -> None:
        """End all choices of a request without a word; unknown ids are ignored."""
        for task in [task for task in self._by_id.values() if task.request_id == request_id]:
            self._end(task)

    def fail_all(self, error: Exception) -> None:
        """End all requests with `error`; rows and the scheduler are left as they are."""
        failure = Failed.of(error)
        requests = dict.fromkeys(task.request_id for task in self._by_id.values())
        self._told.extend((request_id, failure) for request_id in requests)
        for task in self._by_id.values():
            task.close()
        self._by_id.clear()
        self._by_slot.clear()

    def _shift(self, task: Task, slot: int) -> None:
        """Make room in a full context: the older half of what follows `n_keep` goes."""
        job = task.job
        n_keep = min(task.n_keep, task.n_prompt, job.n_past // 2)
        n_discard = max((job.n_past - n_keep) // 2, 1)
        move = self._scheduler.shift(job, n_keep, n_discard)
        self._runner.shift(slot, n_keep, n_discard, move=move)

    def _end(self, task: Task) -> None:
        """Forget a task and free its row."""
        slot = task.job.slot
        opened = slot is not None and self._by_slot.pop(slot, None) is not None
        if slot is not None and opened:
            self._runner.close(slot)
        if (seq_id := self._scheduler.remove(task.job, keep=opened)) is not None:
            self._runner.remove(seq_id)
        del self._by_id[task.job.id]
        self._n_ended += 1
        task.close()
        self._deadlines.tidy(self._by_id)
