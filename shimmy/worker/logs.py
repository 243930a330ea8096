"""llama.cpp's log lines, handed to Python's logging as `shimmy.llama`."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from shimmy.llama import log
from shimmy.llama.log import LogLevel, LogLine, LogPump
from shimmy.log_format import JsonLines

if TYPE_CHECKING:
    from collections.abc import Iterator

_LEVELS = {
    "error": LogLevel.ERROR,
    "warning": LogLevel.WARN,
    "info": LogLevel.INFO,
    "debug": LogLevel.DEBUG,
}
_PYTHON_LEVELS = {
    LogLevel.ERROR: logging.ERROR,
    LogLevel.WARN: logging.WARNING,
    LogLevel.INFO: logging.INFO,
    LogLevel.DEBUG: logging.DEBUG,
}

# Slots share more cells than one of them may use: the worker ends each row in time by itself.
_EXPECTED = "possible training context overflow"

_logger = logging.getLogger("shimmy.llama")


@contextmanager
def forward_logs(level: str, form: str = "text") -> Iterator[None]:
    """Pump lines of `level` and above into logging while the block runs.

    The form `json` is given to all that this process logs; `text` leaves that as it is.
    """
    if form == "json":
        for handler in logging.getLogger().handlers:
            handler.setFormatter(JsonLines())
    log.set_level(_LEVELS.get(level, LogLevel.WARN))
    with LogPump(_forward):
        yield


def _forward(line: LogLine) -> None:
    if _EXPECTED in line.text:
        return
    _logger.log(_PYTHON_LEVELS.get(line.level, logging.INFO), "%s", line.text)
