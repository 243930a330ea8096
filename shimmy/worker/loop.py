"""The engine loop: take commands, plan, run, commit. One thread owns it and the context behind it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from shimmy.engine.types.frame import Report, Step
from shimmy.errors import EngineClosedError
from shimmy.llama.stepper import Finish, RowEvent, StepCode
from shimmy.worker.inbox import Add, Call, Cancel, Inbox, Stop
from shimmy.worker.job import Admit, Evict, Rewind
from shimmy.worker.lora_set import NO_LORAS
from shimmy.worker.open_tasks import OpenTasks
from shimmy.worker.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shimmy.worker.embedder import Embedder
    from shimmy.worker.paging import Paging
    from shimmy.worker.runner import Runner
    from shimmy.worker.scheduler import Scheduler
    from shimmy.worker.session_cells import SessionCells
    from shimmy.worker.task import Task


class Loop:
    """Runs tasks until told to stop. `add`, `cancel` and `stop` may be called from any thread."""

    def __init__(
        self,
        scheduler: Scheduler,
        runner: Runner,
        emit: Callable[[Report], None],
        *,
        paging: Paging | None = None,
        embedder: Embedder | None = None,
        sessions: SessionCells | None = None,
    ) -> None:
        """`emit` gets one `Step` for each engine step that has something to say."""
        self.tally = Tally()
        self._scheduler = scheduler
        self._runner = runner
        self._emit = emit
        self._paging = paging
        self._embedder = embedder
        self._sessions = sessions
        self._inbox = Inbox(runner.hold)
        # Held while a task is announced: what it says comes after that.
        self._announcing = threading.Lock()
        self._stopping = False
        self._tasks = OpenTasks(scheduler, runner)
        # When the last step began, and what the one in flight feeds.
        self._began = 0.0
        self._flying: list[tuple[int, int]] = []
        # What the runner's context computes with.
        self._loras = NO_LORAS

    @property
    def n_open(self) -> int:
        """Tasks that were added and have not ended. Thread: any."""
        return self._tasks.n_open

    def add(self, task: Task) -> None:
        """Queue a prepared task; it joins between two steps. One caller at a time."""
        self._tasks.expect()
        self._inbox.put(Add(task))

    def announce(self, tasks: Sequence[Task], tell: Callable[[], None]) -> None:
        """Queue tasks, then `tell` of it, before anything that they say. One caller at a time.

        In that order, because whoever is told may take the core: the step begins on another one.
        """
        with self._announcing:
            for task in tasks:
                self.add(task)
            tell()

    def cancel(self, request_id: int) -> None:
        """Give a task up before the next step; unknown ids are ignored."""
        self._inbox.put(Cancel(request_id))

    def call(self, function: Callable[[], None]) -> None:
        """Run `function` on the engine's thread between two steps; it must not raise."""
        self._inbox.put(Call(function))

    def stop(self) -> None:
        """End `run` after the current step; what is in flight fails with `EngineClosedError`."""
        self._inbox.put(Stop())

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
                self._embed()
        except Exception as error:
            self._fail_all(error)
            raise

    def _embed(self) -> None:
        if self._embedder is not None and not self._embedder.idle:
            # both would want all cores
            self._rest()
            self._embedder.step(beside=not self._scheduler.idle)

    def _take_commands(self) -> None:
        embeds = self._embedder is not None and not self._embedder.idle
        block = self._scheduler.idle and not embeds
        while (message := self._inbox.take(block=block)) is not None:
            block = False
            if isinstance(message, Add):
                self._tasks.add(message.task)
                continue
            self._rest()
            match message:
                case Cancel(request_id):
                    self._tasks.drop(request_id)
                    if self._embedder is not None:
                        self._embedder.cancel(request_id)
                case Call(function):
                    function()
                case Stop():
                    self._stopping = True

    def _step(self) -> None:
        if self._runner.in_flight:
            self._land(ahead=self._steady(self._flying))
            return
        self._tasks.expire(time.monotonic())
        plan = self._scheduler.plan()
        if self._paging is not None and (plan.actions or self._scheduler.fetching):
            self._paging.begin(busy=plan.busy)
        self._act(plan.actions)
        if self._paging is not None:
            self._page(self._paging)
        bites = [bite for bite in plan.bites if self._tasks.at(bite[0]) is not None]
        if not bites:
            return
        if plan.loras != self._loras:
            self._runner.use(plan.loras)
            self._loras = plan.loras
        self._began = began = time.monotonic()
        code, events = self._runner.step(bites, ahead=self._steady(bites))
        self._scheduler.observe(bites, time.monotonic() - began)
        self._conclude(code, bites, events)

    def _steady(self, bites: list[tuple[int, int]]) -> bool:
        """Whether the step after this one may begin at once: nobody and nothing waits for its turn."""
        return (
            self._scheduler.steady(bites)
            and self._inbox.empty
            and (self._embedder is None or self._embedder.idle)
            and not self._tasks.is_due(time.monotonic())
        )

    def _land(self, *, ahead: bool) -> None:
        """Take what came of the step in flight."""
        code, events = self._runner.take(ahead=ahead)
        self._conclude(code, self._flying, events)

    def _rest(self) -> None:
        """Let no step be in flight; what came of one is told now, not after the next."""
        if self._runner.in_flight:
            self._land(ahead=False)
            self._flush()

    def _conclude(
        self, code: StepCode, bites: list[tuple[int, int]], events: list[RowEvent]
    ) -> None:
        """Note what came of a step, and tell it. The next one may be in flight already."""
        if code is StepCode.KV_FULL:
            self._make_room(bites)
            return
        if code is StepCode.ABORTED:
            return
        self._flying = [(event.row, 1) for event in events]
        sampled = [(event.row, event.token) for event in events if event.token is not None]
        self._scheduler.commit(bites, sampled)
        now = time.monotonic()
        self.tally.step(bites, now - self._began)
        self._began = now  # of the one in flight, if there is one
        for event in events:
            self._tasks.deliver(event, now)

    def _page(self, paging: Paging) -> None:
        """Keep states that were reached, and bring back what rows wait for."""
        for job in self._scheduler.take_marked():
            if job.slot is not None and job.n_past in job.marks:
                paging.checkpoint(job)
        for job in self._scheduler.fetching:
            n_past = paging.load(job)
            if job.slot is None:
                continue
            if n_past < job.n_past:
                self._runner.rewind(job.slot)
            elif n_past > job.n_past:
                self._runner.advance(job.slot, n_past)
            self._scheduler.fetched(job, n_past)

    def _act(self, actions: Sequence[Admit | Evict]) -> None:
        """Do what a plan begins with."""
        now = time.monotonic()
        for action in actions:
            match action:
                case Evict(resident):
                    if self._paging is not None:
                        self._paging.save(resident)
                    self._runner.remove(resident.seq_id)
                case Admit(job, placement):
                    task = self._tasks.get(job.id)  # gone if another choice of its request failed
                    if task is not None and job.slot is not None:
                        self._tasks.start(job.slot, task, placement, now)

    def _make_room(self, bites: list[tuple[int, int]]) -> None:
        """The cells ran out: idle sequences go, then sessions, or the youngest row pauses, its stream with it."""
        if self._paging is not None and self._paging.relieve():
            return
        if evicted := self._scheduler.make_room(bites):
            self._act(evicted)
            return
        if self._sessions is not None and self._sessions.give_way():
            return
        match self._scheduler.pause():
            case Rewind(job) if job.slot is not None:
                self.tally.n_preempted += 1
                self._runner.rewind(job.slot)
            case _:
                # one row alone cannot outgrow the cells; if it did, its context is at its end
                task = self._tasks.at(bites[0][0])
                if task is not None:
                    self._tasks.cut_off(task, Finish.CONTEXT)

    def _flush(self) -> None:
        if told := self._tasks.take_told():
            with self._announcing:
                self._emit(Step(told))

    def _fail_all(self, error: Exception) -> None:
        self._tasks.fail_all(error)
        self._flush()
        if self._embedder is not None:
            self._embedder.fail(error)
