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
        parts = bytearray()
        while len(parts) < size:
            part = os.read(self._fd, min(size - len(parts), 1 << 20))
            if not part:
                return None
            parts += part
        return bytes(parts)
