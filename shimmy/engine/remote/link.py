"""A model of another server, reached over its OpenAI-compatible API."""

from __future__ import annotations

import asyncio
import io
import json
from typing import TYPE_CHECKING, Any, TypeVar

import aiohttp
import msgspec

from shimmy.engine.generation import Generation
from shimmy.engine.link import EngineState
from shimmy.engine.remote import asked
from shimmy.engine.remote.address import root_of
from shimmy.engine.remote.answers import error_from, error_of, events, read_json
from shimmy.engine.remote.body import body_of
from shimmy.engine.remote.chunks import Chunks
from shimmy.engine.remote.listing import info_of, model_of
from shimmy.engine.types.event import Accepted, Finished
from shimmy.errors import EngineClosedError, RemoteError, ShimmyError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from shimmy.engine.calls import AnswerT
    from shimmy.engine.types.frame import Call
    from shimmy.engine.types.info import ModelInfo
    from shimmy.engine.types.request import GenerateRequest

ResultT = TypeVar("ResultT")

_CONNECT_SECONDS = 10.0


class RemoteLink:
    """The `Link` to a server. Nothing is asked of it before `start`. Thread: the event loop's."""

    def __init__(
        self, url: str, *, model: str | None, api_key: str | None, silence: float | None
    ) -> None:
        """Ask the server at `url`; `silence` is how many seconds it may say nothing.

        Raises:
            ConfigError: `url` is not one of http or https.
        """
        self.root = root_of(url)
        self._model = model
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=_CONNECT_SECONDS, sock_read=silence
        )
        self._session: aiohttp.ClientSession | None = None
        self._state = EngineState.NEW
        self._info: ModelInfo | None = None
        self._failure: ShimmyError | None = None
        self._settled = asyncio.Event()
        self._generations: dict[Generation, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def state(self) -> EngineState:
        """LOADING until the server has said which models it has."""
        return self._state

    @property
    def info(self) -> ModelInfo | None:
        """The model, as far as the server describes it: 0 and "" are unknown."""
        return self._info

    @property
    def progress(self) -> float:
        """1.0 once the server has answered."""
        return 1.0 if self._info is not None else 0.0

    @property
    def failure(self) -> ShimmyError | None:
        """Why the server cannot be asked."""
        return self._failure

    @property
    def n_active(self) -> int:
        """Requests in flight."""
        return len(self._generations)

    @property
    def restarts(self) -> int:
        """There is no worker of ours."""
        return 0

    @property
    def worker_pid(self) -> int | None:
        """There is no worker of ours."""
        return None

    async def start(self) -> None:
        """Begin to ask which models there are."""
        if self._state is EngineState.NEW:
            self._state = EngineState.LOADING
            # the machine's proxy settings are for the internet, not for a server named outright
            self._session = aiohttp.ClientSession(timeout=self._timeout, headers=self._headers)
            self._run(self._meet())

    async def ready(self) -> ModelInfo:
        """Wait until the server has answered, or raise why it cannot be asked."""
        await self._settled.wait()
        if self._info is None or self._state is EngineState.CLOSED:
            raise self._end_error()
        return self._info

    def submit(self, request_id: int, request: GenerateRequest) -> Generation:  # noqa: ARG002
        """Start a request; leaving its `Generation` closes the connection, which cancels it."""
        if self._state in {EngineState.FAILED, EngineState.CLOSED}:
            raise self._end_error()
        generation = Generation(lambda: self._cancel(generation))
        # what cannot be asked is refused here, as a local engine would
        path, body = body_of(request)
        work = self._generate(generation, path, body, request.n)
        self._generations[generation] = self._run(work)
        return generation

    async def ask(self, command: Call, kind: type[AnswerT]) -> AnswerT:
        """Ask what has one answer, where the API has a word for it."""
        model = (await self.ready()).name
        answer = await asked.ask(self, command, model)
        if not isinstance(answer, kind):
            raise TypeError(f"{type(command).__name__} was answered by {type(answer).__name__}")
        return answer

    async def post(self, path: str, body: dict[str, Any], kind: type[ResultT]) -> ResultT:
        """Post JSON to a path of the server and return its answer, which is a `kind`.

        Raises:
            RemoteError: it is not of that kind; other `ShimmyError`s as the server says.
        """
        try:
            async with self._open().post(self.root + path, json=body) as response:
                if response.status != 200:
                    raise await error_of(response, str(body.get("model")))
                return msgspec.convert(await read_json(response), kind)
        except msgspec.ValidationError as error:
            raise RemoteError(f"{self.root}{path} answered oddly: {error}", status=200) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._unreachable(error) from error

    async def close(self) -> None:
        """End the connections; requests in flight fail with `EngineClosedError`. Idempotent."""
        if self._state is EngineState.CLOSED:
            return
        self._state = EngineState.CLOSED
        self._settled.set()
        for generation in self._generations:
            generation.fail(EngineClosedError("the engine was closed"))
        self._generations.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def _meet(self) -> None:
        """Ask the server what it has: who it is shows in the answer."""
        try:
            async with self._open().get(f"{self.root}/v1/models") as response:
                if response.status != 200:
                    raise await error_of(response, self._model or "")
                models = await read_json(response)
            self._info = info_of(self.root, model_of(models, self._model))
            self._state = EngineState.READY
        except ShimmyError as error:
            self._fail(error)
        except (aiohttp.ClientError, TimeoutError) as error:
            self._fail(self._unreachable(error))
        finally:
            self._settled.set()

    def _run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _fail(self, error: ShimmyError) -> None:
        self._state = EngineState.FAILED
        self._failure = error

    async def _generate(
        self, generation: Generation, path: str, body: dict[str, Any], n: int
    ) -> None:
        """Carry a request out; it is no longer in flight when its reader hears of the end."""
        error: ShimmyError | None = None
        ends: list[Finished] = []
        try:
            ends = await self._exchange(generation, path, body, n)
        except ShimmyError as failure:
            error = failure
        except (aiohttp.ClientError, TimeoutError) as failure:
            error = self._unreachable(failure)
        finally:
            self._generations.pop(generation, None)
        if error is not None:
            generation.fail(error)
        for finished in ends:
            generation.put(finished)

    async def _exchange(
        self, generation: Generation, path: str, body: dict[str, Any], n: int
    ) -> list[Finished]:
        """Send the request and hand over what comes; return how it ended."""
        model = (await self.ready()).name
        chunks = Chunks(n)
        # images make large bodies: from a file aiohttp sends one in pieces
        data = io.BytesIO(json.dumps({"model": model, **body}).encode())
        async with self._open().post(
            f"{self.root}/v1/{path}", data=data, headers={"Content-Type": "application/json"}
        ) as response:
            if response.status != 200:
                raise await error_of(response, model)
            generation.put(Accepted(0))
            if response.content_type == "text/event-stream":
                async for event in events(response.content):
                    _put(generation, chunks, event, model)
            else:
                _put(generation, chunks, msgspec.json.encode(await read_json(response)), model)
        return chunks.end()

    def _cancel(self, generation: Generation) -> None:
        if (task := self._generations.pop(generation, None)) is not None:
            task.cancel()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            raise self._end_error()
        return self._session

    def _unreachable(self, error: BaseException) -> UnreachableError:
        if isinstance(error, aiohttp.ClientConnectorError):
            said = f"nobody answers at {self.root}; start a server there with `shimmy serve`"
        elif isinstance(error, TimeoutError):
            said = f"{self.root} said nothing for too long"
        else:
            said = f"the connection to {self.root} broke: {error or type(error).__name__}"
        return UnreachableError(said)

    def _end_error(self) -> ShimmyError:
        return self._failure or EngineClosedError("the engine was closed")


def _put(generation: Generation, chunks: Chunks, event: bytes, model: str) -> None:
    """Hand over what one event says.

    Raises:
        ShimmyError: it says that the request failed, or nothing that can be understood.
    """
    try:
        chunk = msgspec.json.decode(event)
        if not isinstance(chunk, dict):
            raise TypeError("not an object")
        if chunk.get("error"):
            raise error_from(chunk, model, status=500)
        deltas = chunks.take(chunk)
    except (msgspec.MsgspecError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise RemoteError(f"the server streamed what is no chunk: {error}", status=200) from error
    for delta in deltas:
        generation.put(delta)
