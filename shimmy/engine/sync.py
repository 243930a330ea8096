"""The engine for programs without asyncio: the same methods, on a loop in a thread of its own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import threading
from typing import TYPE_CHECKING, Any, Self, TypeVar

from shimmy.engine.engine import Engine
from shimmy.engine.sync_generation import SyncGeneration
from shimmy.errors import EngineClosedError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Coroutine, Sequence
    from typing import Unpack

    from shimmy.engine.chat import ChatOptions, Conversation, Reply, RunTool, ToolChoice
    from shimmy.engine.engine import Mode
    from shimmy.engine.generation import Generation
    from shimmy.engine.types.frame import Embedded, Rendering, Reranked
    from shimmy.engine.types.info import ModelInfo
    from shimmy.engine.types.options import EngineOptions
    from shimmy.engine.types.prompt import ChatPrompt, TextPrompt, TokenPrompt, Tool
    from shimmy.engine.types.request import GenerateRequest

T = TypeVar("T")


class SyncEngine:
    """An `Engine` for plain code: `with SyncEngine.solo("model.gguf") as engine:`.

    Any thread may call, several at once: their requests run side by side. Everything raises what
    `Engine` raises; after the block, `EngineClosedError`.
    """

    def __init__(self, make: Callable[[], Engine]) -> None:
        """`make` is called on the engine's own thread; `solo` and the others bring theirs."""
        self._make = make
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._engine: Engine | None = None

    @classmethod
    def solo(cls, model: str | os.PathLike[str] | EngineOptions) -> Self:
        """Return an engine in this process, as `Engine.solo`."""
        return cls(lambda: Engine.solo(model))

    @classmethod
    def child(cls, model: str | os.PathLike[str] | EngineOptions) -> Self:
        """Return an engine with a worker process, as `Engine.child`."""
        return cls(lambda: Engine.child(model))

    @classmethod
    def connect(
        cls,
        url: str,
        *,
        model: str | None = None,
        api_key: str | None = None,
        timeout: float | None = 300.0,
    ) -> Self:
        """Return an engine that asks a server, as `Engine.connect`."""
        return cls(lambda: Engine.connect(url, model=model, api_key=api_key, timeout=timeout))

    @classmethod
    def auto(
        cls,
        model: str | os.PathLike[str] | EngineOptions,
        *,
        url: str | None = None,
        api_key: str | None = None,
    ) -> Self:
        """Return an engine that asks a shimmy of this machine if it can, as `Engine.auto`."""
        return cls(lambda: Engine.auto(model, url=url, api_key=api_key))

    @property
    def mode(self) -> Mode:
        """How the model is reached."""
        return self._open().mode

    @property
    def info(self) -> ModelInfo | None:
        """The model."""
        return self._open().info

    def open(self) -> Self:
        """Load the model; `with` does it. An engine is opened once.

        Raises: as `Engine.ready`.
        """
        if self._thread is not None:
            raise EngineClosedError("this engine was opened before; make another")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="shimmy", daemon=True)
        self._thread.start()
        try:
            self._engine = self._wait(self._begin())
        except BaseException:
            self._stop()
            raise
        return self

    def close(self) -> None:
        """End the engine and its thread; requests of other threads fail. Idempotent."""
        engine, self._engine = self._engine, None
        if engine is not None:
            self._wait(engine.close())
            self._stop()

    def chat(self, messages: Conversation, **options: Unpack[ChatOptions]) -> Reply:
        """Return the answer to a conversation, as `Engine.chat`."""
        return self._wait(self._open().chat(messages, **options))

    def chat_with_tools(
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
        """Return the answer of a model that may call tools, as `Engine.chat_with_tools`.

        A plain `run` is called on a thread that may block.
        """
        asked = self._open().chat_with_tools(
            messages,
            tools,
            run=_off_loop(run) if run is not None else None,
            tool_choice=tool_choice,
            parallel_tool_calls=parallel_tool_calls,
            max_rounds=max_rounds,
            **options,
        )
        return self._wait(asked)

    def stream_chat(self, messages: Conversation, **options: Unpack[ChatOptions]) -> SyncGeneration:
        """Start the answer to a conversation, as `Engine.stream_chat`."""
        return self._start(lambda engine: engine.stream_chat(messages, **options))

    def generate(self, request: GenerateRequest) -> SyncGeneration:
        """Start a request, as `Engine.generate`."""
        return self._start(lambda engine: engine.generate(request))

    def tokenize(
        self, text: str, *, add_special: bool = True, parse_special: bool = True
    ) -> list[int]:
        """Return the tokens of `text`."""
        engine = self._open()
        return self._wait(
            engine.tokenize(text, add_special=add_special, parse_special=parse_special)
        )

    def detokenize(self, tokens: Sequence[int]) -> list[bytes]:
        """Return the bytes of each token."""
        return self._wait(self._open().detokenize(tokens))

    def render(self, prompt: ChatPrompt) -> Rendering:
        """Return what the model would read of a conversation."""
        return self._wait(self._open().render(prompt))

    def embed(self, inputs: Sequence[TextPrompt | TokenPrompt]) -> Embedded:
        """Return a vector for each input."""
        return self._wait(self._open().embed(inputs))

    def rerank(self, query: str, documents: Sequence[str]) -> Reranked:
        """Return a score for each document."""
        return self._wait(self._open().rerank(query, documents))

    def __enter__(self) -> Self:
        """Load the model."""
        return self.open()

    def __exit__(self, *_: object) -> None:
        """Close the engine."""
        self.close()

    async def _begin(self) -> Engine:
        engine = self._make()
        return await engine.__aenter__()

    def _start(self, begin: Callable[[Engine], Generation]) -> SyncGeneration:
        engine = self._open()

        async def started() -> Generation:
            return begin(engine)

        return SyncGeneration(self._wait(started()), self._wait)

    def _open(self) -> Engine:
        if self._engine is None:
            raise EngineClosedError("the engine is closed; use it in a `with` block")
        return self._engine

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Do `work` on the engine's loop; whoever is interrupted (Ctrl-C) cancels it."""
        if self._loop is None or threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("SyncEngine waits, so nothing on its own thread may call it")
        try:
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:
            work.close()
            raise EngineClosedError("the engine was closed") from None
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise EngineClosedError("the engine was closed") from None
        except BaseException:
            future.cancel()
            raise

    def _run(self) -> None:
        assert self._loop is not None  # noqa: S101 - set before the thread starts
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.run_until_complete(_settle())
        self._loop.close()

    def _stop(self) -> None:
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()


def _off_loop(run: RunTool) -> RunTool:
    """Call a plain function on a thread of its own: it may wait, and may ask the engine itself."""
    if inspect.iscoroutinefunction(run):
        return run

    async def called(call: Any) -> str:
        result = await asyncio.to_thread(run, call)
        return result if isinstance(result, str) else await result

    return called


async def _settle() -> None:
    """Let what was cancelled at the end run out, and end the threads of `to_thread`."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_default_executor()
