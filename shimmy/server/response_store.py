"""Responses of /v1/responses, kept in memory for a while: for the next turn, and to be looked up."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from shimmy.server.dialects.responses.items import Item

MAX_COUNT = 1000
MAX_BYTES = 64 * 1024 * 1024
MAX_AGE = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A response as it was sent, the items that the model read, and those that came out.

    `size` in bytes of JSON; `at` in seconds of the store's clock.
    """

    response: dict[str, Any]
    items: list[Item]
    output: list[Item]
    size: int
    at: float


class ResponseStore:
    """The newest responses: bounded by count, bytes and age. The oldest go first."""

    def __init__(
        self,
        *,
        max_count: int = MAX_COUNT,
        max_bytes: int = MAX_BYTES,
        max_age: float = MAX_AGE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`max_bytes` of JSON, each response counted with all that the model read; age in seconds."""
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._clock = clock
        self._stored: OrderedDict[str, Stored] = OrderedDict()
        self._items: dict[str, Item] = {}
        self._n_bytes = 0

    def __len__(self) -> int:
        """Return how many are kept."""
        self._expire()
        return len(self._stored)

    @property
    def n_bytes(self) -> int:
        """Bytes of all that is kept."""
        return self._n_bytes

    def add(self, response: dict[str, Any], items: list[Item]) -> None:
        """Keep a response and what the model read for it, unless it alone is over the bound."""
        size = len(msgspec.json.encode(response)) + len(msgspec.json.encode(items))
        if size > self._max_bytes:
            return
        output = msgspec.convert(response["output"], list[Item])
        stored = Stored(response=response, items=items, output=output, size=size, at=self._clock())
        self._stored[response["id"]] = stored
        self._items |= {item.id: item for item in output if item.id}
        self._n_bytes += size
        while len(self._stored) > self._max_count or self._n_bytes > self._max_bytes:
            self._drop(next(iter(self._stored)))
        self._expire()

    def get(self, response_id: str) -> Stored | None:
        """Return the response of that id, if it is still there."""
        self._expire()
        return self._stored.get(response_id)

    def delete(self, response_id: str) -> bool:
        """Forget a response; False if it is not there."""
        self._expire()
        if response_id not in self._stored:
            return False
        self._drop(response_id)
        return True

    def context(self, response_id: str) -> list[Item] | None:
        """Return all items up to that response and with it; None if it is not there."""
        stored = self.get(response_id)
        return None if stored is None else [*stored.items, *stored.output]

    def item(self, item_id: str) -> Item | None:
        """Return the output item of that id, if it is still there."""
        self._expire()
        return self._items.get(item_id)

    def _expire(self) -> None:
        oldest = self._clock() - self._max_age
        while self._stored:
            first, stored = next(iter(self._stored.items()))
            if stored.at > oldest:
                return
            self._drop(first)

    def _drop(self, response_id: str) -> None:
        stored = self._stored.pop(response_id)
        self._n_bytes -= stored.size
        for item in stored.output:
            self._items.pop(item.id or "", None)
