"""Who waits for a model that is not loaded: one party for each model, in the order they came."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from shimmy.errors import ShimmyError
from shimmy.models.entry import ModelEntry
from shimmy.models.resident import Resident


class Party:
    """Everyone who waits for one model; `kept` stays in the queue without anybody."""

    def __init__(self, entry: ModelEntry) -> None:
        """Nobody waits yet."""
        self.entry = entry
        self.kept = False
        self._seats: list[asyncio.Future[Resident]] = []

    @property
    def n_waiting(self) -> int:
        """Requests that wait."""
        return sum(not seat.done() for seat in self._seats)

    @property
    def is_empty(self) -> bool:
        """Whether all have left and nothing else wants the model."""
        return not self.kept and not self.n_waiting

    def join(self) -> asyncio.Future[Resident]:
        """Return a seat, which becomes the model once it is there."""
        seat: asyncio.Future[Resident] = asyncio.get_running_loop().create_future()
        self._seats.append(seat)
        return seat

    def let_in(self, resident: Resident) -> None:
        """Give all who wait the model, and count them as its users from now on."""
        resident.kept |= self.kept
        for seat in self._seats:
            if not seat.done():
                resident.users += 1
                seat.set_result(resident)
        resident.stop_timer()

    def turn_away(self, error: ShimmyError) -> None:
        """Give all who wait `error`."""
        for seat in self._seats:
            if not seat.done():
                seat.set_exception(error.with_traceback(None))


class Queue:
    """Parties by the path of their model, first come first."""

    def __init__(self) -> None:
        """Nobody waits."""
        self._parties: dict[str, Party] = {}

    def __len__(self) -> int:
        """Return how many parties there are."""
        return len(self._parties)

    def __iter__(self) -> Iterator[Party]:
        """Go through the parties in their order; they may leave meanwhile."""
        return iter(list(self._parties.values()))

    def party(self, entry: ModelEntry) -> Party:
        """Return the party for a model; a new one is the last."""
        return self._parties.setdefault(entry.path, Party(entry))

    def find(self, entry: ModelEntry) -> Party | None:
        """Return the party for a model, if there is one."""
        return self._parties.get(entry.path)

    def remove(self, party: Party) -> None:
        """Take a party out."""
        self._parties.pop(party.entry.path, None)

    def drop_empty(self) -> None:
        """Take out the parties that everyone has left."""
        for party in self:
            if party.is_empty:
                self.remove(party)
