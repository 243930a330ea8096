"""llama.cpp's and ggml's log lines, read from the shim's ring."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Self

from shimmy.llama import _checks
from shimmy.llama._ffi import ffi, lib

if TYPE_CHECKING:
    from collections.abc import Callable

_BUFFER_BYTES = 64 * 1024
_WAIT_MS = 200


class LogLevel(IntEnum):
    """ggml's levels."""

    DEBUG = lib.GGML_LOG_LEVEL_DEBUG
    INFO = lib.GGML_LOG_LEVEL_INFO
    WARN = lib.GGML_LOG_LEVEL_WARN
    ERROR = lib.GGML_LOG_LEVEL_ERROR


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of llama.cpp's log."""

    level: LogLevel
    text: str


def set_level(level: LogLevel) -> None:
    """Keep lines of `level` and above; INFO at first. Any thread."""
    lib.shm_log_set_level(int(level))


def write(level: LogLevel, line: str) -> None:
    """Add a line of our own. Any thread."""
    lib.shm_log_write(int(level), _checks.nul_free("line", line))


def drain() -> list[LogLine]:
    """Take the lines out of the ring, oldest first. Any thread; each line goes to one reader."""
    buffer = ffi.new("char[]", _BUFFER_BYTES)
    lines = []
    while size := lib.shm_log_read(buffer, _BUFFER_BYTES):
        raw = bytes(ffi.buffer(buffer, size)).decode("utf-8", "replace")
        # not splitlines(): a line may hold other separators than the one that ends it
        lines += [LogLine(LogLevel(int(line[0])), line[1:]) for line in raw.split("\n")[:-1]]
    return lines


def dropped() -> int:
    """Return how many lines were lost because nobody read them in time."""
    return int(lib.shm_log_dropped())


class LogPump:
    """A thread that hands each log line to `sink`; close it to hand over the last ones and stop."""

    def __init__(self, sink: Callable[[LogLine], None]) -> None:
        self._sink = sink
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="llama-log", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop after the lines that are there now; does nothing the second time."""
        self._stop.set()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        while True:
            stopping = self._stop.is_set()
            lib.shm_log_wait(0 if stopping else _WAIT_MS)
            for line in drain():
                self._sink(line)
            if stopping:
                return
