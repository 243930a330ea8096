"""A worker under supervision: loaded, watched, replaced when it dies."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import msgspec

from shimmy.engine.backoff import Backoff
from shimmy.engine.blind import blinded
from shimmy.engine.calls import Calls
from shimmy.engine.generation import Generation, ends
from shimmy.engine.link import EngineState
from shimmy.engine.types.event import Event, Failed
from shimmy.engine.types.frame import (
    Answer,
    CallFailed,
    Cancel,
    Died,
    Load,
    LoadFailed,
    Loading,
    LoraList,
    Ready,
    Report,
    SetLoras,
    Step,
    Submit,
)
from shimmy.errors import (
    DeadlineError,
    EngineClosedError,
    EngineDeadError,
    ModelLoadError,
    ShimmyError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from shimmy.engine.calls import AnswerT
    from shimmy.engine.transport import Transport
    from shimmy.engine.types.frame import Call
    from shimmy.engine.types.info import ModelInfo
    from shimmy.engine.types.options import EngineOptions
    from shimmy.engine.types.request import GenerateRequest

log = logging.getLogger(__name__)


class Supervisor:
    """The `Link` to a worker: this process's, or a child's. Thread: the event loop's."""

    def __init__(self, options: EngineOptions, connect: Callable[[], Transport]) -> None:
        """`connect` makes a transport to a fresh worker."""
        self._options = options
        self._connect = connect
        self._transport: Transport | None = None
        self._state = EngineState.NEW
        self._info: ModelInfo | None = None
        # what the worker that is loaded cannot know
        self._notes: list[str] = []
        self._progress = 0.0
        self._failure: ShimmyError | None = None
        self._settled = asyncio.Event()
        self._generations: dict[int, Generation] = {}
        # with the time since when, in seconds of the loop's clock
        self._held: dict[int, tuple[GenerateRequest, float]] = {}
        self._calls = Calls(self._send)
        self._backoff = Backoff()
        self._restarts = 0
        # that which waits to start another worker, and that which does
        self._restarting: asyncio.Task[None] | None = None
        self._relaunching: asyncio.Task[None] | None = None

    @property
    def state(self) -> EngineState:
        """Where the engine is in its life."""
        return self._state

    @property
    def info(self) -> ModelInfo | None:
        """The loaded model; None before it was ready."""
        return self._info

    @property
    def progress(self) -> float:
        """Load progress, 0 to 1."""
        return self._progress

    @property
    def failure(self) -> ShimmyError | None:
        """Why the engine is FAILED."""
        return self._failure

    @property
    def n_active(self) -> int:
        """Requests in flight."""
        return len(self._generations)

    @property
    def restarts(self) -> int:
        """How often the worker was replaced."""
        return self._restarts

    @property
    def worker_pid(self) -> int | None:
        """The worker's process id, if it has one and lives."""
        return self._transport.pid if self._transport is not None else None

    async def start(self) -> None:
        """Begin to load; returns before the model is there."""
        if self._state is EngineState.NEW:
            self._state = EngineState.LOADING
            await self._launch()

    async def ready(self) -> ModelInfo:
        """Wait for the model, or raise why there will be none."""
        while True:
            await self._settled.wait()
            if self._state is EngineState.READY and self._info is not None:
                return self._info
            if self._state in (EngineState.FAILED, EngineState.CLOSED):
                raise self._end_error()

    def submit(self, request_id: int, request: GenerateRequest) -> Generation:
        """Start a request; it waits for the model if that is still being loaded."""
        if self._state in (EngineState.FAILED, EngineState.CLOSED):
            raise self._end_error()
        generation = Generation(lambda: self._cancel(request_id))
        self._generations[request_id] = generation
        if self._state is EngineState.READY:
            self._send(Submit(request_id, request))
        else:
            self._hold(request_id, request)
        return generation

    async def ask(self, command: Call, kind: type[AnswerT]) -> AnswerT:
        """Ask what has one answer; waits for the model."""
        await self.ready()
        answer = await self._calls.ask(command, kind)
        if isinstance(command, SetLoras) and isinstance(answer, LoraList):
            # the next worker begins where this one is
            lora = [(one.path, one.scale) for one in answer.loras]
            self._options = msgspec.structs.replace(self._options, lora=lora)
        return answer

    async def close(self) -> None:
        """End the worker; requests in flight fail with `EngineClosedError`. Idempotent."""
        if self._state is EngineState.CLOSED:
            return
        self._state = EngineState.CLOSED
        self._settled.set()
        self._fail_requests(EngineClosedError("the engine was closed"), held=True)
        if self._restarting is not None:
            self._restarting.cancel()
        if self._transport is not None:
            await self._transport.close()
        if self._relaunching is not None:
            # it ends the process that it was about to start
            await asyncio.wait({self._relaunching})

    def on_report(self, report: Report) -> None:
        """Take a report from the worker."""
        match report:
            case Step(events):
                self._on_step(events)
            case Loading(progress):
                self._progress = progress
            case Ready(info):
                self._on_ready(info)
            case LoadFailed(failure) | Died(failure) if self._state is not EngineState.READY:
                self._fail(failure.error())
            case Died(failure):
                self._restart(f"stopped ({failure.message})")
            case _ if isinstance(report, Answer | CallFailed):
                self._calls.on_answer(report)

    def on_end(self, reason: str) -> None:
        """Take word of the worker's end."""
        if self._state is EngineState.READY:
            self._restart(reason)
        elif self._state is EngineState.LOADING:
            if self._blind(reason):
                self._restarting = asyncio.get_running_loop().create_task(self._relaunch(0))
                return
            what, mmproj = self._options.model_path, self._options.mmproj
            if mmproj is not None:
                what += f" with the projector {mmproj} (--no-mmproj loads it without)"
            self._fail(ModelLoadError(f"the worker {reason} while loading {what}"))
        elif self._state is EngineState.RESTARTING and self._restarting is None:
            self._blind(reason)
            self._restart(reason)

    def _blind(self, reason: str) -> bool:
        """Go on without a projector that nobody asked for, after a load with it killed the worker."""
        if (without := blinded(self._options, reason)) is None:
            return False
        self._options, note = without
        self._notes.append(note)
        log.warning("%s", note)
        return True

    def _on_step(self, events: list[tuple[int, Event]]) -> None:
        for request_id, event in events:
            if (generation := self._generations.get(request_id)) is None:
                continue
            if ends(event):
                del self._generations[request_id]
                self._backoff.worked()
            generation.put(event)

    def _on_ready(self, info: ModelInfo) -> None:
        if self._state is EngineState.CLOSED:
            return
        self._info = msgspec.structs.replace(info, notes=[*info.notes, *self._notes])
        self._progress = 1.0
        self._state = EngineState.READY
        self._settled.set()
        held, self._held = self._held, {}
        now = asyncio.get_running_loop().time()
        for request_id, (request, since) in held.items():
            if request.timeout is not None:
                # the time that it was held counts; what ran out in this moment is the worker's to say
                left = max(request.timeout - (now - since), 1e-3)
                request = msgspec.structs.replace(request, timeout=left)
            self._send(Submit(request_id, request))

    def _hold(self, request_id: int, request: GenerateRequest) -> None:
        """Keep a request until the worker is ready, or its timeout is over."""
        loop = asyncio.get_running_loop()
        self._held[request_id] = request, loop.time()
        if request.timeout is not None:
            loop.call_later(request.timeout, self._expire, request_id)

    def _expire(self, request_id: int) -> None:
        if self._held.pop(request_id, None) is not None:
            error = DeadlineError("the model was not loaded before the request's timeout")
            self._generations.pop(request_id).fail(error)

    def _restart(self, reason: str) -> None:
        """Replace a worker that had been ready: what was in flight fails at once."""
        self._state = EngineState.RESTARTING
        self._settled.clear()
        self._fail_requests(
            EngineDeadError(f"the worker {reason} while this request ran: send it again"),
            held=False,
        )
        self._restarts += 1
        self._restarting = asyncio.get_running_loop().create_task(
            self._relaunch(self._backoff.next_delay())
        )

    async def _relaunch(self, delay: float) -> None:
        await asyncio.sleep(delay)
        if self._transport is not None:
            await self._transport.close()
        self._relaunching, self._restarting = self._restarting, None
        await self._launch()

    async def _launch(self) -> None:
        transport = self._connect()
        self._transport = transport
        self._progress = 0.0
        try:
            await transport.start(self)
        except Exception as error:  # noqa: BLE001  a missing library, no more processes
            self._fail(ModelLoadError(f"the worker could not be started: {error}"))
            return
        if self._state is EngineState.CLOSED:
            # closed while the process was being started: nobody else knows of it yet
            await transport.close()
            return
        transport.send(Load(self._options))

    def _fail(self, error: ShimmyError) -> None:
        """Give up: the model cannot be loaded."""
        if self._state is EngineState.CLOSED:
            return
        self._state = EngineState.FAILED
        self._failure = error
        self._settled.set()
        self._fail_requests(error, held=True)

    def _fail_requests(self, error: ShimmyError, *, held: bool) -> None:
        """End all requests in flight; those held back for a coming worker only with `held`."""
        failure = Failed.of(error)
        for request_id, generation in list(self._generations.items()):
            if held or request_id not in self._held:
                del self._generations[request_id]
                generation.put(failure)
        if held:
            self._held.clear()
        self._calls.fail_all(error)

    def _cancel(self, request_id: int) -> None:
        """Forget a request whose reader has left."""
        if self._generations.pop(request_id, None) is None:
            return
        if self._held.pop(request_id, None) is None:
            self._send(Cancel(request_id))

    def _send(self, command: Submit | Cancel | Call) -> None:
        if self._transport is not None:
            self._transport.send(command)

    def _end_error(self) -> ShimmyError:
        if self._failure is not None:
            return self._failure
        return EngineClosedError("the engine was closed")
