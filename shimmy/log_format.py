"""How a log line is written: the server and its workers write theirs to one standard error."""

from __future__ import annotations

import json
import logging


class JsonLines(logging.Formatter):
    """One JSON object per record: `time` (Unix seconds), `level`, `logger`, `message`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the object; a traceback is part of the message."""
        said = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": super().format(record),
        }
        return json.dumps(said, ensure_ascii=False)
