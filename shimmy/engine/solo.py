"""A worker inside this process, on a thread of its own. A fault in native code ends the process."""

from __future__ import annotations

import asyncio
import importlib
from typing import TYPE_CHECKING, Any

from shimmy.engine.types.frame import Close, Command, Report

if TYPE_CHECKING:
    from shimmy.engine.transport import Listener


class SoloTransport:
    """The worker as a library."""

    def __init__(self) -> None:
        """Nothing runs, and no shared library is opened, before `start`."""
        self._worker: Any = None

    async def start(self, listener: Listener) -> None:
        """Make the worker; opening the libraries happens off the loop."""
        loop = asyncio.get_running_loop()

        def emit(report: Report) -> None:
            try:
                loop.call_soon_threadsafe(listener.on_report, report)
            except RuntimeError:  # the loop is closed: nobody is left to tell
                return

        def make() -> Any:
            return importlib.import_module("shimmy.worker").create(emit)

        self._worker = await asyncio.to_thread(make)

    @property
    def pid(self) -> None:
        """It has no process of its own."""
        return

    def send(self, command: Command) -> None:
        """Hand the command over."""
        if self._worker is not None:
            self._worker.handle(command)

    async def close(self) -> None:
        """End the worker's threads and free the model."""
        worker, self._worker = self._worker, None
        if worker is not None:
            await asyncio.to_thread(worker.handle, Close())
