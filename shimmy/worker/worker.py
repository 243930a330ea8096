"""A worker: takes commands, owns at most one model, reports what happens.

Threads: `handle` may be called from any one thread and returns at once. Behind it are the engine
thread, which loads the model, owns the context and runs the loop, the intake's, which prepare
requests, and one for saved sessions.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from shimmy.engine.types.event import Failed
from shimmy.engine.types.frame import (
    CallFailed,
    Cancel,
    Close,
    Command,
    Detokenize,
    Died,
    Embed,
    Load,
    LoadFailed,
    Loading,
    Loras,
    Plan,
    Planned,
    Ready,
    Render,
    Report,
    Rerank,
    SetLoras,
    SlotAction,
    SlotList,
    SlotResult,
    Slots,
    Stats,
    StatsRead,
    Submit,
    Tokenize,
)
from shimmy.errors import EngineLoadingError
from shimmy.worker import cores
from shimmy.worker.embedder import Embedder
from shimmy.worker.embedding import splits
from shimmy.worker.inputs import InputReader
from shimmy.worker.intake import Intake
from shimmy.worker.loading import Loaded, LoadTicket, load
from shimmy.worker.logs import forward_logs
from shimmy.worker.loop import Loop
from shimmy.worker.paging import make_index, make_paging
from shimmy.worker.pictures import Pictures
from shimmy.worker.placed import on_host
from shimmy.worker.planning import plan_load
from shimmy.worker.prepare import Preparer
from shimmy.worker.runner import NativeRunner, NoRows
from shimmy.worker.scheduler import Scheduler
from shimmy.worker.serving import Serving
from shimmy.worker.session_cells import SessionCells
from shimmy.worker.sessions import Sessions
from shimmy.worker.stats import Gauges
from shimmy.worker.users import Users

if TYPE_CHECKING:
    from collections.abc import Callable

    from shimmy.engine.types.frame import Answer
    from shimmy.engine.types.options import EngineOptions
    from shimmy.worker.runner import Runner

_CLOSE_SECONDS = 10.0
# how long preparing may go on at the end of a model before the model is left to it
_LEAVE_SECONDS = 5.0


class Worker:
    """One model and the loop that runs it."""

    def __init__(self, emit: Callable[[Report], None]) -> None:
        """`emit` takes reports; any thread of the worker calls it."""
        self._emit = emit
        self._intake = Intake(emit)
        # one session at a time, beside the preparing of requests; its thread starts when needed
        self._files = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sessions")
        self._sessions: Sessions | None = None
        self._save_path: str | None = None
        self._gauges: Gauges | None = None
        self._ticket = LoadTicket()
        self._engine: threading.Thread | None = None
        self._lock = threading.Lock()
        self._loop: Loop | None = None
        self._users = Users()

    def handle(self, command: Command) -> None:
        """Act on a command; answers come as reports."""
        match command:
            case Load(options):
                self._engine = threading.Thread(
                    target=self._run, args=(options,), name="engine", daemon=True
                )
                self._engine.start()
            case Submit() | Tokenize() | Detokenize() | Render() | Embed() | Rerank():
                self._intake.take(command)
            case Loras() | SetLoras():
                self._intake.take(command)
            case Cancel(command_id):
                self._intake.cancel(command_id)
            case Plan():
                threading.Thread(target=self._plan, args=(command,), daemon=True).start()
            case SlotAction():
                self._files.submit(self._slot, command)
            case Slots():
                # not behind a session on its way to a disk
                threading.Thread(target=self._slot, args=(command,), daemon=True).start()
            case Stats():
                # not this thread: a driver may take its time
                threading.Thread(target=self._read_stats, args=(command,), daemon=True).start()
            case Close():
                self.close()

    def close(self) -> None:
        """End the load or the loop and free the model; requests in flight fail. Idempotent."""
        self._ticket.cancel()
        with self._lock:
            loop = self._loop
        if loop is not None:
            loop.stop()
        self._intake.close()
        self._files.shutdown(cancel_futures=True)
        if self._engine is not None:
            self._engine.join(_CLOSE_SECONDS)

    def _run(self, options: EngineOptions) -> None:
        """Load, then loop until stopped. Thread: the engine's, for its whole life."""
        with forward_logs(options.log_level, options.log_format):
            self._load_and_loop(options)

    def _load_and_loop(self, options: EngineOptions) -> None:
        try:
            loaded = load(options, self._ticket, lambda done: self._emit(Loading(done)))
        except Exception as error:  # noqa: BLE001  every failure is reported, none is lost
            self._emit(LoadFailed(Failed.of(error)))
            return
        try:
            self._run_loop(loaded, options)
        except Exception as error:  # noqa: BLE001
            self._emit(Died(Failed.of(error)))
        finally:
            if not self._users.end(loaded.close, _LEAVE_SECONDS):
                loaded.model.spare_at_exit()

    def _run_loop(self, loaded: Loaded, options: EngineOptions) -> None:
        layout = loaded.layout
        paging = make_paging(loaded, options) if loaded.generates else None
        index = make_index(layout, paging)
        scheduler = Scheduler(
            index,
            n_slots=layout.n_slots,
            n_cells=layout.n_cells,
            n_batch=loaded.context.n_batch,
            n_bite=min(loaded.context.n_ubatch, loaded.context.n_batch),
            store=paging,
        )
        runner = _runner(loaded, options)
        embedder = Embedder(
            loaded.embedding_context,
            self._emit,
            splits=splits(loaded.model),
            use=loaded.adapters.use,
        )
        cells = SessionCells(loaded, index, scheduler, paging) if loaded.generates else None
        loop = Loop(scheduler, runner, self._emit, paging=paging, embedder=embedder, sessions=cells)
        if cells is not None:
            self._sessions = Sessions(loaded, scheduler, loop, cells)
        self._save_path = options.slot_save_path
        with self._lock:
            self._loop = loop
            self._gauges = _gauges(loaded, scheduler, loop)
        self._intake.open(_serving(loaded, options, loop, embedder, self._users))
        if self._ticket.cancelled:
            loop.stop()
        self._emit(Ready(loaded.info))
        try:
            loop.run()
        finally:
            self._intake.shut()
            with self._lock:
                self._loop = self._gauges = None
                sessions, self._sessions = self._sessions, None
            if sessions is not None:
                sessions.close()
            embedder.shut()
            runner.shut()

    def _slot(self, command: Slots | SlotAction) -> None:
        """Answer a question about slots, or move a session. Thread: the sessions', or one of its own."""
        try:
            with self._lock:
                sessions = self._sessions
                if sessions is None:
                    raise EngineLoadingError("there is no model loaded that generates text")
                self._users.enter()
            try:
                self._emit(self._slot_answer(sessions, command))
            finally:
                self._users.leave()
        except Exception as error:  # noqa: BLE001
            self._emit(CallFailed(command.id, Failed.of(error)))

    def _slot_answer(self, sessions: Sessions, command: Slots | SlotAction) -> Answer:
        if isinstance(command, Slots):
            return SlotList(command.id, sessions.slots())
        return SlotResult(command.id, sessions.act(command, self._save_path))

    def _read_stats(self, command: Stats) -> None:
        try:
            with self._lock:
                gauges = self._gauges
            if gauges is None:
                raise EngineLoadingError("there is no model loaded")
            stats = gauges.read()
        except Exception as error:  # noqa: BLE001
            self._emit(CallFailed(command.id, Failed.of(error)))
            return
        self._emit(StatsRead(command.id, stats))

    def _plan(self, command: Plan) -> None:
        try:
            planned = plan_load(command.options, lambda: self._ticket.cancelled)
        except Exception as error:  # noqa: BLE001
            self._emit(CallFailed(command.id, Failed.of(error)))
            return
        self._emit(Planned(command.id, planned))


def _runner(loaded: Loaded, options: EngineOptions) -> Runner:
    if not loaded.generates:
        return NoRows()
    return NativeRunner(
        loaded.context,
        loaded.adapters,
        n_slots=loaded.layout.n_slots,
        n_ctx=loaded.layout.n_ctx_row,
        shifts=options.context_shift,
        overlaps=cores.spare(loaded.info.n_threads) or not on_host(loaded.info.placement),
    )


def _pictures(loaded: Loaded) -> Pictures | None:
    if loaded.projector is None:
        return None
    return Pictures(loaded.projector, n_ubatch=loaded.context.n_ubatch)


def _gauges(loaded: Loaded, scheduler: Scheduler, loop: Loop) -> Gauges:
    return Gauges(
        scheduler=scheduler,
        tally=loop.tally,
        n_slots=loaded.layout.n_slots if loaded.generates else 0,
        n_cells=loaded.info.n_ctx if loaded.generates else 0,
        devices=[name for name in loaded.info.devices if name != "CPU"],
    )


def _serving(
    loaded: Loaded, options: EngineOptions, loop: Loop, embedder: Embedder, users: Users
) -> Serving:
    layout = loaded.layout
    return Serving(
        info=loaded.info,
        preparer=Preparer(
            loaded.model,
            loaded.template,
            loaded.adapters,
            n_ctx=layout.n_ctx_row,
            n_slots=layout.n_slots,
            n_batch=loaded.context.n_batch,
            pictures=_pictures(loaded),
        ),
        inputs=InputReader(
            loaded.model, loaded.info.kind, n_ctx=loaded.embedding_params.n_ctx or 0
        ),
        adapters=loaded.adapters,
        embedder=embedder,
        loop=loop,
        users=users,
        limit=layout.n_slots + options.max_queue,
    )
