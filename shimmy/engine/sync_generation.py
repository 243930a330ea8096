"""A running request for programs without asyncio: a plain iterator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from shimmy.errors import EngineClosedError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from shimmy.engine.generation import Generation
    from shimmy.engine.types.event import Accepted, Delta, Finished, PromptScored


class SyncGeneration:
    """Events of one request, as `Generation`, for a plain `for` in a `with` block.

    Leaving the block, or `close`, cancels the request. One thread reads.
    """

    def __init__(
        self, generation: Generation, wait: Callable[[Coroutine[Any, Any, Any]], Any]
    ) -> None:
        """Read `generation` by way of `wait`."""
        self._generation = generation
        self._wait = wait

    def __iter__(self) -> Self:
        """Return self."""
        return self

    def __next__(self) -> Accepted | PromptScored | Delta | Finished:
        """Return the next event; raise the request's error, or stop after the last `Finished`."""
        event: Accepted | PromptScored | Delta | Finished | None = self._wait(self._next())
        if event is None:
            raise StopIteration
        return event

    async def _next(self) -> Accepted | PromptScored | Delta | Finished | None:
        return await anext(self._generation, None)

    def close(self) -> None:
        """Cancel the request if it still runs; idempotent."""

        async def closed() -> None:
            self._generation.close()

        try:
            self._wait(closed())
        except EngineClosedError:
            return  # it ended with the engine

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(self, *_: object) -> None:
        """Cancel the request if it still runs."""
        self.close()
