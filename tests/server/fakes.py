"""An engine and a pool that play scripts: the contract without a model."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from shimmy.engine.generation import Generation
from shimmy.engine.types.event import Accepted, Delta, Event, Failed, Finished, Timings, Usage
from shimmy.engine.types.frame import Embedded, Rendering, Reranked
from shimmy.engine.types.info import ModelInfo
from shimmy.engine.types.prompt import ChatPrompt, TextPrompt, TokenPrompt
from shimmy.engine.types.request import GenerateRequest
from shimmy.errors import (
    ContextLengthError,
    EngineClosedError,
    EngineDeadError,
    EngineLoadingError,
    InvalidRequestError,
    ModelNotFoundError,
    ShimmyError,
)

Step = Event | Exception | float | asyncio.Event | list[Event]
"""An event, an error, a pause in seconds, something to wait for, or events of one step."""

Script = Callable[[GenerateRequest], Iterable[Step]]

MODELS = ("tiny", "org/big")


def finished(reason="stop", *, prompt=5, completion=3, cached=0, stop=None) -> Finished:
    return Finished(
        reason=reason,
        usage=Usage(prompt_tokens=prompt, completion_tokens=completion, cached_tokens=cached),
        timings=Timings(queue_ms=0.5, prompt_ms=10.0, predicted_ms=20.0),
        stop=stop,
    )


def hello(_request: GenerateRequest) -> list[Step]:
    return [
        Accepted(5),
        Delta(text="Hel"),
        Delta(text="lo"),
        Delta(text="", n_tokens=1),
        finished(),
    ]


class QueuedGeneration(Generation):
    @property
    def n_queued(self) -> int:
        return len(self._events)


INFO = ModelInfo(
    path="/models/tiny.gguf",
    name="tiny",
    description="tiny",
    n_params=1,
    size=1,
    n_vocab=256,
    n_ctx_train=128,
    n_ctx=128,
    n_batch=128,
    n_parallel=4,
    n_threads=1,
    n_gpu_layers=0,
    devices=["CPU"],
    has_chat_template=True,
    load_ms=1.0,
)


class FakeEngine:
    """Plays `script` for every request; remembers requests and cancellations."""

    def __init__(self, script: Script = hello) -> None:
        self.script = script
        self.state = "ready"
        self.progress = 1.0
        self.failure: ShimmyError | None = None
        self.info: ModelInfo | None = INFO
        self.restarts = 0
        self.requests: list[GenerateRequest] = []
        self.rendered: list[ChatPrompt] = []
        self.embedded: list[TextPrompt | TokenPrompt] = []
        self.n_cancelled = 0
        self._live: dict[Generation, asyncio.Task[None]] = {}

    @property
    def n_active(self) -> int:
        return len(self._live)

    def generate(self, request: GenerateRequest) -> Generation:
        request.check()
        self.requests.append(request)
        generation = QueuedGeneration(lambda: self._cancel(generation))
        task = asyncio.create_task(self._play(generation, request))
        self._live[generation] = task
        return generation

    async def render(self, prompt: ChatPrompt) -> Rendering:
        """As text, the words of all messages; a token each."""
        self.rendered.append(prompt)
        text = " ".join(message.content for message in prompt.messages)
        return Rendering(id=1, text=text, n_tokens=len(text.split()))

    async def tokenize(
        self, text: str, *, add_special: bool = True, parse_special: bool = True
    ) -> list[int]:
        """A token for each byte; 1 begins a text, 2 is <s> if control tokens are read."""
        words = text.split("<s>") if parse_special else [text]
        tokens = [2]
        for word in words:
            tokens += [*word.encode(), 2]
        return [1] * add_special + tokens[1:-1]

    async def detokenize(self, tokens: Sequence[int]) -> list[bytes]:
        if max(tokens, default=0) > 255:
            raise InvalidRequestError("no such token", param="tokens")
        return [bytes([token]) for token in tokens]

    async def embed(self, inputs: Sequence[TextPrompt | TokenPrompt]) -> Embedded:
        """A vector for each input: (3, 4) / 5, and zeros after it; a token for each word or id."""
        self.embedded = list(inputs)
        n_tokens = [
            len(each.text.split()) if isinstance(each, TextPrompt) else len(each.tokens)
            for each in inputs
        ]
        if max(n_tokens) > 100:
            raise ContextLengthError(max(n_tokens), 100)
        vector = struct.pack("<4f", 0.6, 0.8, 0.0, 0.0)
        return Embedded(id=1, vectors=[vector] * len(n_tokens), n_tokens=n_tokens)

    async def rerank(self, query: str, documents: Sequence[str]) -> Reranked:
        """As score, the words that a document shares with the query, less one."""
        if self.info is INFO and query == "unfit":
            raise InvalidRequestError("this model is no reranker", param="model")
        words = set(query.split())
        return Reranked(
            id=1,
            scores=[float(len(words & set(each.split())) - 1) for each in documents],
            n_tokens=[len(words) + len(each.split()) for each in documents],
        )

    def fail_all(self, error: ShimmyError) -> None:
        for generation, task in list(self._live.items()):
            task.cancel()
            generation.put(Failed.of(error))
        self._live.clear()

    def die(self) -> None:
        self.fail_all(EngineDeadError("the worker was killed by signal 9"))
        self.restarts += 1

    async def gone(self, n: int = 1) -> None:
        """Wait until `n` requests were cancelled."""
        async with asyncio.timeout(10):
            while self.n_cancelled < n:
                await asyncio.sleep(0.002)

    async def busy(self, n: int = 1) -> None:
        """Wait until `n` requests run."""
        async with asyncio.timeout(10):
            while self.n_active < n:
                await asyncio.sleep(0.002)

    def _cancel(self, generation: Generation) -> None:
        task = self._live.pop(generation, None)
        if task is not None:
            self.n_cancelled += 1
            task.cancel()

    async def _play(self, generation: Generation, request: GenerateRequest) -> None:
        for step in self.script(request):
            if isinstance(step, float):
                await asyncio.sleep(step)
            elif isinstance(step, asyncio.Event):
                await step.wait()
            elif isinstance(step, Exception):
                generation.put(Failed.of(step))
            elif isinstance(step, list):
                for event in step:
                    generation.put(event)
            else:
                generation.put(step)
                # one event per step, as the engine's do
                await asyncio.sleep(0)
        self._live.pop(generation, None)


@dataclass(frozen=True, kw_only=True)
class Entry:
    name: str
    path: str = "/models/x.gguf"
    size: int = 1000
    source: str = "discovered"
    modified: int = 1_700_000_000
    system: str | None = None
    parameters: dict[str, object] = field(default_factory=dict)


class FakeRegistry:
    def __init__(self, names: Iterable[str] = MODELS) -> None:
        self._entries = [Entry(name=name) for name in names]

    def entries(self) -> list[Entry]:
        return list(self._entries)

    def resolve(self, name: str | None) -> Entry:
        for entry in self._entries:
            if not name or entry.name == name:
                return entry
        raise ModelNotFoundError(name or "", [entry.name for entry in self._entries])

    async def fresh(self) -> list[Entry]:
        return self.entries()

    async def find(self, name: str | None) -> Entry:
        return self.resolve(name)


@dataclass(frozen=True)
class FakeLease:
    entry: Entry
    engine: FakeEngine


@dataclass
class FakePool:
    engine: FakeEngine = field(default_factory=FakeEngine)
    registry: FakeRegistry = field(default_factory=FakeRegistry)
    error: Exception | None = None
    started: bool = False
    closed: bool = False
    n_leases: int = 0
    loaded_at: float = field(default_factory=time.time)
    is_asleep: bool = False
    failure: ShimmyError | None = None
    how: dict[str, object] = field(default_factory=dict)
    """What the last `use` was asked beside the name."""

    @property
    def current(self) -> FakeEngine | None:
        return self.engine

    async def start(self) -> None:
        self.started = True

    async def find(self, name: str | None) -> Entry:
        return self.registry.resolve(name)

    async def peek(self, name: str | None) -> FakeEngine:
        self.registry.resolve(name)
        if self.engine is None or self.engine.state != "ready":
            raise EngineLoadingError("the model is not loaded")
        return self.engine

    @asynccontextmanager
    async def use(self, name: str | None, **how: object) -> AsyncIterator[FakeLease]:
        self.how = how
        if self.error is not None:
            raise self.error
        entry = self.registry.resolve(name)
        self.n_leases += 1
        try:
            yield FakeLease(entry, self.engine)
        finally:
            self.n_leases -= 1

    async def close(self) -> None:
        self.closed = True
        if self.engine is not None:
            self.engine.fail_all(EngineClosedError("the server is shutting down"))
