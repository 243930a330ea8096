"""How an engine reaches its worker: commands down, reports up, and word of the worker's end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from shimmy.engine.types.frame import Command, Report


class Listener(Protocol):
    """Who a transport reports to. Thread: the event loop's."""

    def on_report(self, report: Report) -> None:
        """Take a report."""

    def on_end(self, reason: str) -> None:
        """The worker has ended; nothing more comes. `reason` says how, for people."""


class Transport(Protocol):
    """One worker. All methods on the event loop's thread."""

    async def start(self, listener: Listener) -> None:
        """Start the worker; it reports to `listener` from now on."""

    def send(self, command: Command) -> None:
        """Send a command; it is dropped when the worker has ended."""

    async def close(self) -> None:
        """End the worker and wait for it; idempotent."""

    @property
    def pid(self) -> int | None:
        """The worker's process id; None when it has no process of its own."""
