"""Log lines to standard error from a thread of their own, so that whoever logs never waits for it.

A pipe that nobody reads is full after some hundred lines. Without this the next line would stop the
event loop, and every request with it.
"""

from __future__ import annotations

import logging
import os
import queue
import sys
import threading

from shimmy.log_format import JsonLines

N_LINES = 10_000
"""Lines that may wait; further ones are dropped and counted."""

_LAST_WORDS = 1.0
"""Seconds that the end of the process waits for lines to be written."""


class LineLog(logging.Handler):
    """Writes to a file descriptor; says how many lines it had to drop once it can write again."""

    def __init__(self, fd: int = 2, n_lines: int = N_LINES) -> None:
        """Start the thread, which the process does not wait for."""
        super().__init__()
        self._fd = fd
        self._lines: queue.Queue[str] = queue.Queue(n_lines)
        self._counting = threading.Lock()
        self._n_dropped = 0
        threading.Thread(target=self._write, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a line; never waits."""
        try:
            self._lines.put_nowait(self.format(record) + "\n")
        except queue.Full:
            self._drop()
        except Exception:  # noqa: BLE001 - as logging's own handlers: a bad line is no reason to fail
            self.handleError(record)

    def flush(self) -> None:
        """Wait until all lines are written, or for a second."""
        lines = self._lines
        with lines.all_tasks_done:
            lines.all_tasks_done.wait_for(lambda: not lines.unfinished_tasks, _LAST_WORDS)

    def _write(self) -> None:
        while True:
            line = self._lines.get()
            n_dropped = self._take_dropped()
            if n_dropped:
                line += self.format(_notice(n_dropped)) + "\n"
            self._put(line.encode(errors="backslashreplace"))
            self._lines.task_done()

    def _take_dropped(self) -> int:
        with self._counting:
            n_dropped, self._n_dropped = self._n_dropped, 0
        return n_dropped

    def _drop(self) -> None:
        with self._counting:
            self._n_dropped += 1

    def _put(self, data: bytes) -> None:
        # not through sys.stderr: its lock, held by a thread that waits, would stop the process's end
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError:
            self._drop()


def log_to_stderr(level: int | str, *, as_json: bool = False) -> None:
    """Send log records of all threads to standard error, without waiting for its reader."""
    handler = LineLog(sys.__stderr__.fileno() if sys.__stderr__ is not None else 2)
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonLines() if as_json else text)
    logging.basicConfig(level=level, handlers=[handler])


def _notice(n_dropped: int) -> logging.LogRecord:
    said = f"{n_dropped} log lines before this were dropped: nobody read them"
    return logging.LogRecord(__name__, logging.WARNING, __file__, 0, said, None, None)
