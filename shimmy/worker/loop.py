"""The engine loop: take commands, plan, run, commit. One thread owns it and the context behind it."""

from __future__ import annotations

import queue
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shimmy.engine.types.event import Event, Failed
from shimmy.engine.types.frame import Report, Step
from shimmy.errors import EngineClosedError, ShimmyError
from shimmy.llama.stepper import Finish, RowEvent, StepCode
from shimmy.worker.scheduler import Admit, Evict, Rewind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shimmy.worker.prefix import Placement
    from shimmy.worker.runner import Runner
    from shimmy.worker.scheduler import Scheduler
    from shimmy.worker.task import Task


@dataclass(frozen=True, slots=True)
class _Add:
    task: Task


@dataclass(frozen=True, slots=True)
class _Cancel:
    id: int


@dataclass(frozen=True, slots=True)
class _Stop:
    pass


class Loop:
    """Runs tasks until told to stop. `add`, `cancel` and `stop` may be called from any thread."""

    def __init__(
        self, scheduler: Scheduler, runner: Runner, emit: Callable[[Report], None]
    ) -> None:
        """`emit` gets one `Step` for each engine step that has something to say."""
        self._scheduler = scheduler
        self._runner = runner
        self._emit = emit
        self._inbox: queue.SimpleQueue[_Add | _Cancel | _Stop] = queue.SimpleQueue()
        self._tasks: dict[int, Task] = {}
        self._by_slot: dict[int, Task] = {}
        self._out: list[tuple[int, Event]] = []
        self._stopping = False
        # each is written by one thread at a time: whoever adds, and the engine's
        self._n_added = 0
        self._n_ended = 0

    @property
    def n_open(self) -> int:
        """Tasks that were added and have not ended. Thread: any."""
        return self._n_added - self._n_ended

    def add(self, task: Task) -> None:
        """Queue a prepared task; it joins between two steps. One caller at a time."""
        self._n_added += 1
        self._inbox.put(_Add(task))

    def cancel(self, request_id: int) -> None:
        """Give a task up before the next step; unknown ids are ignored."""
        self._inbox.put(_Cancel(request_id))

    def stop(self) -> None:
        """End `run` after the current step; what is in flight fails with `EngineClosedError`."""
        self._inbox.put(_Stop())

    def run(self) -> None:
        """Work until stopped. A fault of the context fails all tasks and is raised.

        Thread: the engine's.
        """
        try:
            while True:
                self._take_commands()
                if self._stopping:
                    self._fail_all(EngineClosedError("the engine was closed"))
                    return
                self._step()
                self._flush()
        except Exception as error:
            self._fail_all(error)
            raise

    def _take_commands(self) -> None:
        block = self._scheduler.idle
        while True:
            try:
                command = self._inbox.get(block=block)
            except queue.Empty:
                return
            block = False
            match command:
                case _Add(task):
                    self._tasks[task.job.id] = task
                    self._scheduler.submit(task.job)
                case _Cancel(request_id):
                    if request_id in self._tasks:
                        self._end(self._tasks[request_id])
                case _Stop():
                    self._stopping = True

    def _step(self) -> None:
        plan = self._scheduler.plan()
        refused = self._act(plan.actions)
        bites = [bite for bite in plan.bites if bite[0] not in refused]
        if not bites:
            return
        began = time.monotonic()
        code, events = self._runner.step(bites)
        now = time.monotonic()
        if code is StepCode.KV_FULL:
            self._make_room(bites)
            return
        if code is StepCode.ABORTED:
            return
        sampled = [(event.row, event.token) for event in events if event.token is not None]
        self._scheduler.commit(bites, sampled)
        self._scheduler.observe(bites, now - began)
        for event in events:
            self._deliver(event, now)

    def _act(self, actions: Sequence[Admit | Evict]) -> set[int]:
        """Do what a plan begins with; return the slots of rows that could not be opened."""
        refused = set()
        now = time.monotonic()
        for action in actions:
            match action:
                case Evict(seq_id):
                    self._runner.remove(seq_id)
                case Admit(job, placement):
                    slot = job.slot
                    if slot is not None and not self._open(
                        slot, self._tasks[job.id], placement, now
                    ):
                        refused.add(slot)
        return refused

    def _open(self, slot: int, task: Task, placement: Placement, now: float) -> bool:
        """Start the task's row; a task that cannot start fails alone."""
        task.clock.started = now
        try:
            self._runner.open(slot, task, placement)
        except ShimmyError as error:
            self._out.append((task.job.id, Failed.of(error)))
            self._free(self._scheduler.remove(task.job, keep=False))
            del self._tasks[task.job.id]
            self._n_ended += 1
            task.close()
            return False
        self._by_slot[slot] = task
        return True

    def _deliver(self, event: RowEvent, now: float) -> None:
        task = self._by_slot[event.row]
        if event.finish is Finish.ERROR:
            failure = Failed(code=ShimmyError.code, message=event.text)
            self._out.append((task.job.id, failure))
            self._end(task)
            return
        self._out.extend((task.job.id, out) for out in task.events(event, now))
        if event.finish is not Finish.NONE:
            self._end(task)

    def _make_room(self, bites: list[tuple[int, int]]) -> None:
        """The cells ran out: idle sequences go, or the youngest row pauses, its stream with it."""
        match self._scheduler.make_room(bites):
            case Rewind(job) if job.slot is not None:
                self._runner.rewind(job.slot)
            case list() as evicted:
                self._act(evicted)
            case _:
                # one row alone cannot outgrow the cells; if it did, its context is at its end
                slot = bites[0][0]
                task = self._by_slot[slot]
                n_generated = task.job.n_tokens - task.n_prompt
                end = RowEvent(slot, None, n_generated, Finish.CONTEXT, None, "")
                self._deliver(end, time.monotonic())

    def _end(self, task: Task) -> None:
        """Forget a task and free its row."""
        slot = task.job.slot
        if slot is not None:
            del self._by_slot[slot]
            self._runner.close(slot)
        self._free(self._scheduler.remove(task.job))
        del self._tasks[task.job.id]
        self._n_ended += 1
        task.close()

    def _free(self, evicted: Evict | None) -> None:
        if evicted is not None:
            self._runner.remove(evicted.seq_id)

    def _flush(self) -> None:
        if self._out:
            self._emit(Step(self._out))
            self._out = []

    def _fail_all(self, error: Exception) -> None:
        failure = Failed.of(error)
        self._out.extend((request_id, failure) for request_id in self._tasks)
        for task in self._tasks.values():
            task.close()
        self._tasks.clear()
        self._by_slot.clear()
        self._flush()
