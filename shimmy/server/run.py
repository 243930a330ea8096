"""The generations that one body asks for, read as one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Self

import msgspec

from shimmy.engine.generation import Generation
from shimmy.engine.types.event import Accepted, Delta, Finished, PromptScored
from shimmy.errors import ContextLengthError, InvalidRequestError, ShimmyError
from shimmy.server.dialects.types import Call, Echo
from shimmy.server.seams import Engine

Event = Accepted | PromptScored | Delta | Finished


class Run:
    """One call's generations, as one stream of `Delta`s and `Finished`s. Leaving it cancels them.

    Choice j of prompt i is number i * n + j. With `echo`, each choice begins with an `Echo`.
    """

    def __init__(self, engine: Engine, call: Call) -> None:
        """Nothing is asked before the block is entered."""
        self._engine = engine
        self._call = call
        self._requests = (call.request, *call.more)
        self._generations: list[Generation] = []
        self._queue: asyncio.Queue[Event | Exception] = asyncio.Queue()
        self._readers: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Hand all requests to the engine."""
        try:
            for request in self._requests:
                self._generations.append(self._engine.generate(request))
        except BaseException:
            self._close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Cancel what still runs."""
        self._close()

    def _close(self) -> None:
        for reader in self._readers:
            reader.cancel()
        for generation in self._generations:
            generation.close()

    async def accepted(self) -> int:
        """Wait until the engine has taken all requests; return how many tokens the prompts have."""
        n_tokens = 0
        for i, generation in enumerate(self._generations):
            try:
                event = await anext(generation, None)
            except InvalidRequestError as error:
                self._blame(error, i)
                raise
            if not isinstance(event, Accepted):
                raise broken(event)
            n_tokens += event.prompt_tokens
        return n_tokens

    def _blame(self, error: InvalidRequestError, number: int) -> None:
        """Name the field as the body does: the engine has no idea what clients call it."""
        if isinstance(error, ContextLengthError):
            field = self._call.prompt_field
            error.param = f"{field}[{number}]" if self._call.more else field
        elif error.param is not None:
            error.param = self._call.names.get(error.param, error.param)

    def tap(self, take: Callable[[Delta], bool]) -> None:
        """Let `take` have deltas as they come, where there is one at a time: see `Generation.tap`."""
        if len(self._generations) == 1 == self._call.request.n and not self._call.echo:
            self._generations[0].tap(take)

    @property
    def n_queued(self) -> int:
        """Events that can be had without waiting."""
        if self._readers:
            return self._queue.qsize()
        return self._generations[0].n_queued

    def __aiter__(self) -> AsyncIterator[Event]:
        """Return the events, after `accepted`."""
        if len(self._generations) == 1 and not self._call.echo:
            return self._generations[0]
        return self._mixed()

    async def _mixed(self) -> AsyncIterator[Event]:
        for i, generation in enumerate(self._generations):
            self._readers.append(asyncio.create_task(self._read(i, generation)))
        left = self._call.request.n * len(self._requests)
        while left:
            event = await self._queue.get()
            if isinstance(event, Exception):
                raise event
            if isinstance(event, Finished):
                left -= 1
                event = msgspec.structs.replace(event, last=left == 0)
            yield event

    async def _read(self, number: int, generation: Generation) -> None:
        put = self._queue.put_nowait
        first = number * self._call.request.n
        try:
            for echo in self._echoes(number, None):
                put(echo)
            async for event in generation:
                if isinstance(event, Delta | Finished):
                    event = msgspec.structs.replace(event, choice=first + event.choice)
                    put(event)
                    if isinstance(event, Finished) and event.last:
                        return
                elif isinstance(event, PromptScored):
                    for echo in self._echoes(number, event):
                        put(echo)
                else:
                    raise broken(event)
            raise broken(None)
        except Exception as error:  # noqa: BLE001 - whoever reads the queue raises it
            self._queue.put_nowait(error)

    def _echoes(self, number: int, scored: PromptScored | None) -> Iterator[Echo]:
        """Yield the prompt for each of its choices, at once or when it has been scored."""
        request = self._requests[number]
        if not self._call.echo or (request.prompt_logprobs is None) != (scored is None):
            return
        logprobs = scored.logprobs if scored else []
        text = self._call.echo[number]
        if text is None:
            text = b"".join(entry.text for entry in logprobs).decode(errors="replace")
        for choice in range(request.n):
            yield Echo(text=text, n_tokens=0, logprobs=logprobs, choice=number * request.n + choice)


def broken(event: object) -> ShimmyError:
    """Return the error for an `event` (None: an end) that should not have come."""
    got = "nothing" if event is None else type(event).__name__
    return ShimmyError(f"the engine ended the request out of turn, with {got}")
