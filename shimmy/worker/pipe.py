"""Frames over a worker's stdin and stdout."""

from __future__ import annotations

import os
import threading

from shimmy.engine.types.frame import (
    HEADER,
    MAX_FRAME,
    Command,
    Report,
    decode_command,
    encode_frame,
)

# Bytes to ask for: most frames come whole then, with their header.
_AT_LEAST, _AT_MOST = 1 << 16, 1 << 20


class FrameWriter:
    """Writes reports to a file descriptor. Any thread: a frame is written whole."""

    def __init__(self, fd: int) -> None:
        """`fd` stays the caller's."""
        self._fd = fd
        self._lock = threading.Lock()

    def write(self, report: Report) -> None:
        """Write one frame; a reader that is gone is not an error here, stdin tells of it."""
        view = memoryview(encode_frame(report))
        with self._lock:
            try:
                while view:
                    view = view[os.write(self._fd, view) :]
            except BrokenPipeError:
                return


class FrameReader:
    """Reads commands from a file descriptor, one after the other. One thread."""

    def __init__(self, fd: int) -> None:
        """`fd` stays the caller's."""
        self._fd = fd
        self._ahead = bytearray()  # what was read, and belongs to the next frames

    def read(self) -> Command | None:
        """Return the next command; None at the end of the stream, also in mid-frame."""
        header = self._exactly(HEADER.size)
        if header is None:
            return None
        (size,) = HEADER.unpack(header)
        if size > MAX_FRAME:
            raise ValueError(f"a frame of {size} bytes is over the limit of {MAX_FRAME}")
        body = self._exactly(size)
        return None if body is None else decode_command(body)

    def _exactly(self, size: int) -> bytes | None:
        while (missing := size - len(self._ahead)) > 0:
            part = os.read(self._fd, min(max(missing, _AT_LEAST), _AT_MOST))
            if not part:
                return None
            self._ahead += part
        data = bytes(self._ahead[:size])
        del self._ahead[:size]
        return data
