"""What waits for the reader of a request, bounded however slowly it reads."""

from __future__ import annotations

from collections import deque

from shimmy.engine.types.event import Delta, Event
from shimmy.errors import ShimmyError

MERGE_FROM = 256
"""Events that wait before the next ones are put together: a reader in time gets each as it comes."""

MERGE_TOKENS = 64
"""Tokens of one event that was put together: joining texts again and again has a price."""

LIMIT = 4096
"""Events that may wait: a few MB, and 245,000 tokens of plain text."""


class Backlog:
    """Events in their order; texts that follow each other may come as one. One thread."""

    def __init__(self) -> None:
        """Empty."""
        self._events: deque[Event | ShimmyError] = deque()

    def __len__(self) -> int:
        """Return how many events wait."""
        return len(self._events)

    @property
    def full(self) -> bool:
        """Whether the reader is hopelessly behind."""
        return len(self._events) >= LIMIT

    def add(self, event: Event | ShimmyError) -> None:
        """Append an event, or put it together with the last."""
        if len(self._events) >= MERGE_FROM:
            last = self._events[-1]
            if isinstance(event, Delta) and isinstance(last, Delta) and _fit(last, event):
                self._events[-1] = Delta(
                    text=last.text + event.text,
                    reasoning=last.reasoning + event.reasoning,
                    n_tokens=last.n_tokens + event.n_tokens,
                    choice=last.choice,
                )
                return
        self._events.append(event)

    def take(self) -> Event | ShimmyError:
        """Remove and return the first event."""
        return self._events.popleft()


def _fit(last: Delta, event: Delta) -> bool:
    """Whether two deltas are the same kind of plain text, and together not too long."""
    return (
        last.choice == event.choice
        and bool(last.text) == bool(event.text)
        and bool(last.reasoning) == bool(event.reasoning)
        and not (last.tool_calls or event.tool_calls or last.logprobs or event.logprobs)
        and last.n_tokens + event.n_tokens <= MERGE_TOKENS
    )
