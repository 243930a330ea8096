"""What comes in for a loaded model: requests are prepared and queued, questions answered.

Threads: `take` and `cancel` from the one that reads commands; the work is done by a pool beside it.
"""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import TYPE_CHECKING

from shimmy.engine.types.event import Accepted, Event, Failed
from shimmy.engine.types.frame import (
    CallFailed,
    Embed,
    LoraList,
    Loras,
    Rerank,
    SetLoras,
    Step,
    Submit,
)
from shimmy.errors import DeadlineError, EngineLoadingError, InvalidRequestError, OverloadedError
from shimmy.worker.alarm import Alarm
from shimmy.worker.commands import Question, answer, has_grammar, has_images, with_defaults
from shimmy.worker.embedder import EmbedCall
from shimmy.worker.serving import check_room
from shimmy.worker.timed_pool import TimedPool

if TYPE_CHECKING:
    from collections.abc import Callable

    from shimmy.engine.types.frame import Answer, Report
    from shimmy.engine.types.request import GenerateRequest
    from shimmy.worker.serving import Serving
    from shimmy.worker.task import Task

PREPARE_SECONDS = 30.0
"""How long rendering, tokenising and compiling the grammar of one request may take."""

_THREADS = 2

IMAGE_SECONDS = 600.0
"""The same for a request with images: computing what a model sees of one takes many seconds on a CPU."""


class Intake:
    """Takes commands for the model that is `open`."""

    def __init__(self, emit: Callable[[Report], None], *, seconds: float = PREPARE_SECONDS) -> None:
        """`emit` takes reports; any thread calls it."""
        self._emit = emit
        self._seconds = seconds
        self._pool = TimedPool(_THREADS, seconds)
        # one at a time, and never in the way of requests without images
        self._images = TimedPool(1, IMAGE_SECONDS)
        # nothing is computed to count tokens
        self._counts = TimedPool(1, IMAGE_SECONDS)
        # what waits for a thread cannot look at its own time
        self._alarm = Alarm(self._expire)
        self._lock = threading.Lock()
        self._serving: Serving | None = None
        # Requests and calls that the loop does not know yet, and that nobody has given up.
        self._preparing: set[int] = set()

    def open(self, serving: Serving) -> None:
        """Take commands from now on."""
        with self._lock:
            self._serving = serving

    def shut(self) -> None:
        """Take no more commands: the model goes. Its `users` may still be at those before."""
        with self._lock:
            self._serving = None

    def close(self) -> None:
        """Forget what waits for its preparation; what is being prepared ends as soon as it can."""
        with self._lock:
            self._preparing.clear()
        self._pool.close()
        self._images.close()
        self._counts.close()
        self._alarm.close()

    def take(self, command: Submit | Question) -> None:
        """Prepare a command and hand it on, on a thread of the pool."""
        came = time.monotonic()
        with self._lock:
            self._preparing.add(command.id)
            if isinstance(command, Submit) and self._serving is not None:
                command = with_defaults(command, self._serving.adapters)
            serving, n_waiting = self._serving, len(self._preparing) - 1
        pool = self._pool
        if has_images(command):
            pool = self._images if isinstance(command, Submit) else self._counts
            # they wait for seconds, with all their files
            try:
                check_room(serving, 1, n_waiting)
            except OverloadedError as error:
                self._fail(command, Failed.of(error))
                return
        if isinstance(command, Submit) and command.request.timeout is not None:
            self._alarm.set(command.id, came + command.request.timeout, self._preparing)
        pool.submit(lambda: self._handle(command, came), lambda: self._give_up(command))

    def cancel(self, command_id: int) -> None:
        """Give a request or a call up, wherever it is; unknown ids are ignored."""
        with self._lock:
            self._preparing.discard(command_id)
            serving = self._serving
        if serving is not None:
            serving.loop.cancel(command_id)

    def _handle(self, command: Submit | Question, came: float) -> None:
        try:
            with self._lock:
                if command.id not in self._preparing:
                    return  # its reader left while it waited for a thread
                serving = self._serving
                if serving is None:
                    raise EngineLoadingError("the model is not loaded")
                # under the lock, so that nobody comes in after `shut`
                serving.users.enter()
            try:
                self._serve(serving, command, came)
            finally:
                serving.users.leave()
        except Exception as error:  # noqa: BLE001  each gets every failure of its own
            self._fail(command, Failed.of(error))

    def _serve(self, serving: Serving, command: Submit | Question, came: float) -> None:
        match command:
            case Submit(request_id, request):
                self._submit(serving, request_id, request, came)
            case Embed() | Rerank():
                self._embed(serving, command)
            case Loras() | SetLoras():
                if isinstance(command, SetLoras):
                    serving.adapters.set_defaults(command.scales)
                self._answer(LoraList(command.id, serving.adapters.infos()))
            case _:
                self._answer(answer(serving.preparer, command, lambda: self._wanted(command.id)))

    def _give_up(self, command: Submit | Question) -> None:
        seconds, why = self._seconds, "its grammar, schema or text is too large"
        if has_images(command):
            seconds, why = IMAGE_SECONDS, "send fewer or smaller images"
        error = InvalidRequestError(
            f"preparing the request took more than {seconds:g} seconds: {why}",
            param="grammar" if has_grammar(command) else None,
        )
        self._fail(command, Failed.of(error))

    def _expire(self, request_id: int) -> None:
        """End a request whose timeout is over before the loop knows it."""
        if self._known(request_id):
            error = DeadlineError(
                "the request's timeout was over before it was prepared: try again later"
            )
            self._tell(request_id, Failed.of(error))

    def _fail(self, command: Submit | Question, failure: Failed) -> None:
        if not self._known(command.id):
            return
        if isinstance(command, Submit):
            self._tell(command.id, failure)
        else:
            self._emit(CallFailed(command.id, failure))

    def _answer(self, report: Answer) -> None:
        if self._known(report.id):
            self._emit(report)

    def _wanted(self, command_id: int) -> bool:
        with self._lock:
            return command_id in self._preparing

    def _known(self, command_id: int) -> bool:
        """Whether somebody still waits for a command; true once, to whoever asks first."""
        with self._lock:
            known = command_id in self._preparing
            self._preparing.discard(command_id)
            return known

    def _submit(
        self, serving: Serving, request_id: int, request: GenerateRequest, came: float
    ) -> None:
        """Prepare a request and hand its choices to the loop; its timeout runs since it `came`."""
        if serving.info.kind != "generative":
            raise InvalidRequestError(
                f"{serving.info.name} is an {serving.info.kind} model, which generates no text: "
                "use it for embeddings or reranking, or load another",
                param="model",
            )
        check_room(serving, request.n)
        wanted = partial(self._wanted, request_id)
        tasks = serving.preparer.prepare(request_id, request, wanted)
        if request.timeout is not None:
            for task in tasks:
                task.deadline = came + request.timeout
        if not self._enqueue(serving, request_id, tasks):
            for task in tasks:
                task.close()

    def _enqueue(self, serving: Serving, request_id: int, tasks: list[Task]) -> bool:
        """Give tasks to the loop; False when their request has ended already.

        Under the lock, so that a cancel finds them in one place or the other, and no two requests
        take the last place in the queue.
        """
        with self._lock:
            if request_id not in self._preparing:
                return False
            self._preparing.remove(request_id)
            try:
                check_room(serving, len(tasks))
            except OverloadedError as error:
                self._tell(request_id, Failed.of(error))
                return False
            accepted = partial(self._tell, request_id, Accepted(tasks[0].n_prompt))
            if tasks[0].runs:
                serving.loop.announce(tasks, accepted)
                return True
            accepted()
            for task in tasks:
                self._tell(request_id, task.nothing())
            return False

    def _embed(self, serving: Serving, command: Embed | Rerank) -> None:
        """Tokenise a call's inputs and hand them to the engine's thread."""
        loras = serving.adapters.defaults
        if isinstance(command, Embed):
            call = EmbedCall(command.id, serving.inputs.embed(command.inputs), loras=loras)
        else:
            inputs = serving.inputs.rank(command.query, command.documents)
            call = EmbedCall(command.id, inputs, ranks=True, loras=loras)
        with self._lock:
            if command.id in self._preparing:
                self._preparing.remove(command.id)
                serving.loop.call(lambda: serving.embedder.add(call))

    def _tell(self, request_id: int, event: Event) -> None:
        self._emit(Step([(request_id, event)]))
