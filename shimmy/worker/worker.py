"""A worker: takes commands, owns at most one model, reports what happens.

Threads: `handle` may be called from any one thread and returns at once. Behind it are the engine
thread, which loads the model, owns the context and runs the loop, and a small pool that prepares
requests.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from shimmy.engine.types.event import Accepted, Event, Failed, Finished, Usage
from shimmy.engine.types.frame import (
    CallFailed,
    Cancel,
    Close,
    Command,
    Describe,
    Died,
    Load,
    LoadFailed,
    Loading,
    Ready,
    Report,
    Step,
    Submit,
    System,
    Tokenize,
    Tokens,
)
from shimmy.errors import EngineLoadingError, OverloadedError
from shimmy.worker.loading import Loaded, LoadTicket, load
from shimmy.worker.logs import forward_logs
from shimmy.worker.loop import Loop
from shimmy.worker.prefix import MAX_SEQUENCES, PrefixIndex
from shimmy.worker.prepare import Preparer
from shimmy.worker.runner import NativeRunner
from shimmy.worker.scheduler import Scheduler

if TYPE_CHECKING:
    from collections.abc import Callable

    from shimmy.engine.types.options import EngineOptions
    from shimmy.worker.task import Task

_CLOSE_SECONDS = 10.0


class Worker:
    """One model and the loop that runs it."""

    def __init__(self, emit: Callable[[Report], None]) -> None:
        """`emit` takes reports; any thread of the worker calls it."""
        self._emit = emit
        self._pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="prepare")
        self._ticket = LoadTicket()
        self._engine: threading.Thread | None = None
        self._lock = threading.Lock()
        self._loop: Loop | None = None
        self._preparer: Preparer | None = None
        self._preparing: set[int] = set()
        self._max_queue = 0
        self._limit = 0

    def handle(self, command: Command) -> None:
        """Act on a command; answers come as reports."""
        match command:
            case Load(options):
                self._engine = threading.Thread(
                    target=self._run, args=(options,), name="engine", daemon=True
                )
                self._engine.start()
            case Submit(request_id):
                with self._lock:
                    self._preparing.add(request_id)
                self._pool.submit(self._submit, command)
            case Cancel(request_id):
                self._cancel(request_id)
            case Tokenize():
                self._pool.submit(self._tokenize, command)
            case Describe():
                self._pool.submit(self._describe, command)
            case Close():
                self.close()

    def close(self) -> None:
        """End the load or the loop and free the model; requests in flight fail. Idempotent."""
        self._ticket.cancel()
        with self._lock:
            loop = self._loop
        if loop is not None:
            loop.stop()
        self._pool.shutdown(cancel_futures=True)
        if self._engine is not None:
            self._engine.join(_CLOSE_SECONDS)

    def _run(self, options: EngineOptions) -> None:
        """Load, then loop until stopped. Thread: the engine's, for its whole life."""
        with forward_logs(options.log_level):
            self._load_and_loop(options)

    def _load_and_loop(self, options: EngineOptions) -> None:
        self._max_queue = options.max_queue
        try:
            loaded = load(options, self._ticket, lambda done: self._emit(Loading(done)))
        except Exception as error:  # noqa: BLE001  every failure is reported, none is lost
            self._emit(LoadFailed(Failed.of(error)))
            return
        with loaded:
            try:
                self._run_loop(loaded)
            except Exception as error:  # noqa: BLE001
                self._emit(Died(Failed.of(error)))

    def _run_loop(self, loaded: Loaded) -> None:
        info = loaded.info
        scheduler = Scheduler(
            PrefixIndex(
                MAX_SEQUENCES if loaded.shares_prefixes else info.n_parallel,
                sharing=loaded.shares_prefixes,
            ),
            n_slots=info.n_parallel,
            n_cells=info.n_ctx,
            n_batch=info.n_batch,
            n_bite=min(loaded.n_ubatch, info.n_batch),
        )
        runner = NativeRunner(loaded.context, n_slots=info.n_parallel, n_ctx=loaded.n_ctx_row)
        loop = Loop(scheduler, runner, self._emit)
        self._limit = info.n_parallel + self._max_queue
        with self._lock:
            self._preparer = Preparer(loaded.model, loaded.template, n_ctx=loaded.n_ctx_row)
            self._loop = loop
        if self._ticket.cancelled:
            loop.stop()
        self._emit(Ready(info))
        try:
            loop.run()
        finally:
            with self._lock:
                self._loop = None
                self._preparer = None
            runner.shut()

    def _ready(self) -> tuple[Preparer, Loop]:
        with self._lock:
            if self._preparer is None or self._loop is None:
                raise EngineLoadingError("the model is not loaded")
            return self._preparer, self._loop

    def _submit(self, command: Submit) -> None:
        """Prepare a request and hand it to the loop. Thread: the pool's."""
        try:
            preparer, loop = self._ready()
            self._check_room(loop)
            task = preparer.prepare(command.id, command.request)
        except Exception as error:  # noqa: BLE001  the request gets every failure of its own
            with self._lock:
                self._preparing.discard(command.id)
            self._tell(command.id, Failed.of(error))
            return
        if not self._enqueue(loop, task):
            task.close()

    def _enqueue(self, loop: Loop, task: Task) -> bool:
        """Give a task to the loop; False when it has ended already.

        Under the lock, so that a cancel finds the task in one place or the other, and no two
        tasks take the last place in the queue.
        """
        request_id = task.job.id
        with self._lock:
            if request_id not in self._preparing:
                return False
            self._preparing.remove(request_id)
            try:
                self._check_room(loop)
            except OverloadedError as error:
                self._tell(request_id, Failed.of(error))
                return False
            self._tell(request_id, Accepted(task.n_prompt))
            if task.max_tokens == 0:
                self._tell(request_id, _nothing(task))
                return False
            loop.add(task)
            return True

    def _check_room(self, loop: Loop) -> None:
        if loop.n_open >= self._limit:
            raise OverloadedError(
                f"{loop.n_open} requests run or wait, which is all that the slots and --max-queue "
                "allow: try again later"
            )

    def _cancel(self, request_id: int) -> None:
        with self._lock:
            self._preparing.discard(request_id)
            loop = self._loop
        if loop is not None:
            loop.cancel(request_id)

    def _tell(self, request_id: int, event: Event) -> None:
        self._emit(Step([(request_id, event)]))

    def _tokenize(self, command: Tokenize) -> None:
        try:
            preparer, _ = self._ready()
            tokens = preparer.tokenize(
                command.text, add_special=command.add_special, parse_special=command.parse_special
            )
        except Exception as error:  # noqa: BLE001
            self._emit(CallFailed(command.id, Failed.of(error)))
            return
        self._emit(Tokens(command.id, tokens))

    def _describe(self, command: Describe) -> None:
        try:
            from shimmy.worker.system import describe

            info = describe()
        except Exception as error:  # noqa: BLE001
            self._emit(CallFailed(command.id, Failed.of(error)))
            return
        self._emit(System(command.id, info))


def _nothing(task: Task) -> Finished:
    """The end of a request with `max_tokens` 0: the prompt was counted, nothing is generated."""
    return Finished(
        reason="length",
        usage=Usage(prompt_tokens=task.n_prompt, completion_tokens=0),
        timings=task.clock.timings(task.clock.submitted),
    )
