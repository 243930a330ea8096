"""How a pull is shown: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    DownloadColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as Bars

from shimmy.cli.console import sized, stderr
from shimmy.models.hub.download import Progress
from shimmy.models.hub.remote import Pull

# Seconds between two lines where there is no terminal.
_LINE_EVERY = 10.0


@contextmanager
def shown(pull: Pull) -> Iterator[Progress]:
    """Yield what a download calls, and show what it says on standard error."""
    console = stderr()
    if console.is_terminal and not os.environ.get("NO_COLOR"):
        with _bars() as bars:
            yield _Terminal(bars, pull)
    else:
        yield _Lines(pull)


def _bars() -> Bars:
    return Bars(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=stderr(),
    )


class _Terminal:
    """One bar for each file."""

    def __init__(self, bars: Bars, pull: Pull) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {
            file.name: bars.add_task(file.name, total=file.size, start=False) for file in pull.files
        }

    def __call__(self, name: str, done: int) -> None:
        task = self._tasks[name]
        self._bars.start_task(task)
        self._bars.update(task, completed=done)


class _Lines:
    """A line when a file begins and ends, and every few seconds between."""

    def __init__(self, pull: Pull) -> None:
        self._sizes = {file.name: file.size for file in pull.files}
        self._next: dict[str, float] = {}

    def __call__(self, name: str, done: int) -> None:
        size, now = self._sizes[name], time.monotonic()
        if done < size and now < self._next.get(name, 0.0):
            return
        if done == size and self._next.get(name) == float("inf"):
            return
        self._next[name] = float("inf") if done == size else now + _LINE_EVERY
        percent = 100 * done // size
        stderr().print(f"{name}: {sized(done)} of {sized(size)} ({percent} %)", soft_wrap=True)
