"""The public engine: one model, wherever it runs."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, Literal, Self

from shimmy.engine.chat import chat_request, collect, conversation, run_tools, with_tools
from shimmy.engine.images import gathered, request_gathered
from shimmy.engine.link import EngineState, Link
from shimmy.engine.process import ProcessTransport
from shimmy.engine.solo import SoloTransport
from shimmy.engine.supervisor import Supervisor
from shimmy.engine.types.frame import (
    Detokenize,
    Embed,
    Embedded,
    LoraList,
    Loras,
    Pieces,
    Render,
    Rendering,
    Rerank,
    Reranked,
    SetLoras,
    SlotAction,
    SlotList,
    SlotResult,
    Slots,
    Stats,
    StatsRead,
    Tokenize,
    Tokens,
)
from shimmy.engine.types.lora import check_scales
from shimmy.engine.types.options import EngineOptions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from typing import Unpack

    from shimmy.engine.chat import ChatOptions, Conversation, Reply, RunTool, ToolChoice
    from shimmy.engine.generation import Generation
    from shimmy.engine.types.info import ModelInfo
    from shimmy.engine.types.lora import LoraInfo
    from shimmy.engine.types.prompt import ChatPrompt, TextPrompt, TokenPrompt, Tool
    from shimmy.engine.types.request import GenerateRequest
    from shimmy.engine.types.slot import SlotDone, SlotInfo, SlotVerb
    from shimmy.engine.types.stats import WorkerStats
    from shimmy.errors import ShimmyError

Mode = Literal["solo", "child", "connect"]


class Engine:
    """Answers from one model. All methods belong to the thread of one event loop.

    `async with Engine.solo("model.gguf") as engine:` loads in this process, `Engine.child` in a
    worker process that is restarted when it dies; `Engine.connect` asks a server, `Engine.auto` a
    server of this machine if it has the model. What they take and give is the same.
    """

    def __init__(
        self,
        link: Link,
        mode: Mode,
        *,
        find: Callable[[], Awaitable[Link | None]] | None = None,
    ) -> None:
        """Use `link`, or the server that `find` brings at the start; `solo` and others call this."""
        self.mode: Mode = mode
        """How the model is reached; `auto` decides it in `start`."""
        self._link = link
        self._find = find
        self._ids = itertools.count(1)

    @classmethod
    def solo(cls, model: str | os.PathLike[str] | EngineOptions) -> Self:
        """Return an engine whose worker is a thread of this process."""
        return cls(Supervisor(_options(model), SoloTransport), "solo")

    @classmethod
    def child(cls, model: str | os.PathLike[str] | EngineOptions) -> Self:
        """Return an engine with a supervised worker process."""
        return cls(Supervisor(_options(model), ProcessTransport), "child")

    @classmethod
    def connect(
        cls,
        url: str,
        *,
        model: str | None = None,
        api_key: str | None = None,
        timeout: float | None = 300.0,
    ) -> Self:
        """Return an engine that asks the OpenAI-compatible server at `url`, with or without /v1.

        `model` None takes the first that the server lists. A server that says nothing for `timeout`
        seconds (None: however long) fails the request.

        Raises:
            ConfigError: `url` is not one of http or https.
        """
        from shimmy.engine.remote.link import RemoteLink

        return cls(RemoteLink(url, model=model, api_key=api_key, silence=timeout), "connect")

    @classmethod
    def auto(
        cls,
        model: str | os.PathLike[str] | EngineOptions,
        *,
        url: str | None = None,
        api_key: str | None = None,
    ) -> Self:
        """Return an engine that asks a shimmy running here if it has the file, else `solo`.

        `start` looks at `url`, or else where `shimmy serve` listens, and takes less than a second.
        `api_key` None means SHIMMY_API_KEY.
        """
        from shimmy.engine.remote.search import Search

        options = _options(model)
        search = Search(options.model_path, url=url, api_key=api_key)
        return cls(Supervisor(options, SoloTransport), "solo", find=search.find)

    @property
    def state(self) -> EngineState:
        """Where the engine is in its life."""
        return self._link.state

    @property
    def info(self) -> ModelInfo | None:
        """The loaded model; None before it was ready."""
        return self._link.info

    @property
    def progress(self) -> float:
        """Load progress, 0 to 1."""
        return self._link.progress

    @property
    def failure(self) -> ShimmyError | None:
        """Why the engine is FAILED."""
        return self._link.failure

    @property
    def n_active(self) -> int:
        """Requests in flight."""
        return self._link.n_active

    @property
    def restarts(self) -> int:
        """How often the worker was replaced."""
        return self._link.restarts

    @property
    def worker_pid(self) -> int | None:
        """The worker's process id, if it has one and lives."""
        return self._link.worker_pid

    async def start(self) -> None:
        """Begin to load; returns before the model is there."""
        find, self._find = self._find, None
        # a request that came before the start waits for this process's own model
        if find is not None and not self.n_active and (found := await find()):
            self._link, self.mode = found, "connect"
        await self._link.start()

    async def ready(self) -> ModelInfo:
        """Wait for the model.

        Raises:
            ModelLoadError: it could not be loaded (or another `ShimmyError` that says why).
            EngineClosedError: the engine was closed.
        """
        return await self._link.ready()

    def generate(self, request: GenerateRequest) -> Generation:
        """Start a request; it waits for the model if that is still being loaded.

        Raises:
            InvalidRequestError: a field of the request is out of its range.
            ImageError: an image of its messages cannot be taken.
            EngineClosedError, ModelLoadError: this engine will not answer any more.
        """
        request.check()
        return self._link.submit(next(self._ids), request_gathered(request))

    async def chat(self, messages: Conversation, **options: Unpack[ChatOptions]) -> Reply:
        """Return the answer to a conversation: a text (the user's), or its messages.

        Raises:
            InvalidRequestError: an option is out of its range, or the template refuses.
            ContextLengthError: the conversation is longer than the context.
        """
        turns = conversation(messages)
        async with self.generate(chat_request(turns, **options)) as generation:
            return await collect(generation, turns)

    def stream_chat(self, messages: Conversation, **options: Unpack[ChatOptions]) -> Generation:
        """Start the answer to a conversation; its `Delta`s come as they are made.

        Raises: as `chat`; what the worker finds is raised by the iteration.
        """
        return self.generate(chat_request(conversation(messages), **options))

    async def chat_with_tools(
        self,
        messages: Conversation,
        tools: Sequence[Tool],
        *,
        run: RunTool | None = None,
        tool_choice: ToolChoice = "auto",
        parallel_tool_calls: bool = False,
        max_rounds: int = 8,
        **options: Unpack[ChatOptions],
    ) -> Reply:
        """Return the answer of a model that may call `tools`.

        Without `run` its calls are the answer. With it they are made, `run(call)` returning or
        awaiting the text that the tool says, and the model is asked again, `max_rounds` times at
        most; the answer then has calls only if it still wants more. `tool_choice` holds for the
        first round. Raises: as `chat`, and what `run` raises.
        """
        request = with_tools(
            chat_request(conversation(messages), **options),
            tools,
            choice=tool_choice,
            parallel=parallel_tool_calls,
        )
        return await run_tools(self, request, run, max_rounds)

    async def tokenize(
        self, text: str, *, add_special: bool = True, parse_special: bool = True
    ) -> list[int]:
        """Return the tokens of `text`; waits for the model."""
        command = Tokenize(next(self._ids), text, add_special, parse_special)
        return (await self._link.ask(command, Tokens)).tokens

    async def loras(self) -> list[LoraInfo]:
        """Return the LoRA adapters of the model with their default scales; waits for the model."""
        return (await self._link.ask(Loras(next(self._ids)), LoraList)).loras

    async def set_loras(self, scales: Mapping[int, float]) -> list[LoraInfo]:
        """Change the default scales for requests that come later, 0 for adapters not named.

        They outlast the worker: one that is started again has them.

        Raises:
            InvalidRequestError: there is no such adapter, or its scale cannot be.
        """
        check_scales(scales)
        return (await self._link.ask(SetLoras(next(self._ids), dict(scales)), LoraList)).loras

    async def slots(self) -> list[SlotInfo]:
        """Return what each slot does, and how much of its last request is still in the cells."""
        return (await self._link.ask(Slots(next(self._ids)), SlotList)).slots

    async def stats(self) -> WorkerStats:
        """Return what the worker has done and holds, without waiting for a step; waits for the model."""
        return (await self._link.ask(Stats(next(self._ids)), StatsRead)).stats

    async def slot_action(self, slot: int, verb: SlotVerb, filename: str = "") -> SlotDone:
        """Save, restore or erase what the last request of a slot left.

        Raises:
            InvalidRequestError: no such slot, a busy one, nothing to save; a bad name or file.
            OverloadedError: no room for what is to be restored.
        """
        command = SlotAction(next(self._ids), slot, verb, filename)
        return (await self._link.ask(command, SlotResult)).done

    async def detokenize(self, tokens: Sequence[int]) -> list[bytes]:
        """Return the bytes of each token, which may be parts of characters.

        Raises:
            InvalidRequestError: a token is not in the vocabulary.
        """
        command = Detokenize(next(self._ids), list(tokens))
        return (await self._link.ask(command, Pieces)).pieces

    async def render(self, prompt: ChatPrompt) -> Rendering:
        """Return what the model would read of a conversation, and its length in tokens.

        Raises:
            InvalidRequestError: the template refuses the conversation.
        """
        return await self._link.ask(Render(next(self._ids), gathered(prompt)), Rendering)

    async def embed(self, inputs: Sequence[TextPrompt | TokenPrompt]) -> Embedded:
        """Return a vector for each input.

        Raises:
            ContextLengthError: an input is longer than the model takes at once.
        """
        return await self._link.ask(Embed(next(self._ids), list(inputs)), Embedded)

    async def rerank(self, query: str, documents: Sequence[str]) -> Reranked:
        """Return a score for each document.

        Raises:
            InvalidRequestError: the model is not a reranker.
            ContextLengthError: a document and the query are longer than the model takes at once.
        """
        command = Rerank(next(self._ids), query, list(documents))
        return await self._link.ask(command, Reranked)

    async def close(self) -> None:
        """End the worker; requests in flight fail with `EngineClosedError`. Idempotent."""
        await self._link.close()

    async def __aenter__(self) -> Self:
        """Load the model."""
        try:
            await self.start()
            await self.ready()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the engine."""
        await self.close()


def _options(model: str | os.PathLike[str] | EngineOptions) -> EngineOptions:
    if isinstance(model, EngineOptions):
        return model
    return EngineOptions(model_path=os.fspath(model))
