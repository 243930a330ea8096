"""The beginning of a file, seen through a window of bounded size that only moves forward."""

from __future__ import annotations

import io
import struct
from itertools import repeat
from operator import length_hint
from struct import Struct
from typing import Any

from shimmy.errors import GgufError

# Most headers of small files fit the first read; a vocabulary takes some more.
FIRST_READ = 64 * 1024
NEXT_READ = 1024 * 1024
# The largest vocabularies of today (half a million merges) make headers of some 20 MiB.
MAX_HEADER = 128 * 1024 * 1024

_U64 = Struct("<Q")


class Window:
    """Reads numbers and bytes from a file of `size` bytes; holds one block of it at a time.

    All methods raise `GgufError` where the file or the largest allowed header ends, and `OSError`
    where the file cannot be read.
    """

    def __init__(self, file: io.RawIOBase, size: int) -> None:
        """Start at the beginning of `file`, which is `size` bytes long."""
        self.size = size
        self._file = file
        self._block = b""
        self._base = 0
        self._at = 0
        self._step = FIRST_READ

    @property
    def position(self) -> int:
        """Where the next byte comes from, counted from the beginning of the file."""
        return self._base + self._at

    @property
    def left(self) -> int:
        """How many bytes of the file come after this."""
        return self.size - self.position

    def unpack(self, layout: Struct) -> Any:
        """Return the next number."""
        self._need(layout.size)
        (value,) = layout.unpack_from(self._block, self._at)
        self._at += layout.size
        return value

    def take(self, n_bytes: int) -> bytes:
        """Return the next bytes; the caller has bounded how many."""
        self._need(n_bytes)
        start = self._at
        self._at += n_bytes
        return self._block[start : self._at]

    def skip(self, n_bytes: int) -> None:
        """Move past some bytes."""
        self._move(self.position + n_bytes)

    def skip_strings(self, count: int) -> None:
        """Move past strings, each a length in 8 bytes and that many more.

        This is where the time for a large vocabulary goes: about 0.1 µs for each.
        """
        unpack = _U64.unpack_from
        strings = repeat(None, count)
        block, at = self._block, self._at
        while True:
            try:
                for _ in strings:
                    at += 8 + unpack(block, at)[0]
            except (struct.error, OverflowError):
                # the block ends in or before this length, which was not counted
                strings = repeat(None, length_hint(strings) + 1)
                self._move(self._base + at)
                self._need(_U64.size)
                block, at = self._block, self._at
            else:
                self._move(self._base + at)
                return

    def _need(self, n_bytes: int) -> None:
        """Have the next bytes in the block."""
        if len(self._block) - self._at >= n_bytes:
            return
        self._check(self.position + n_bytes)
        start, self._base, self._at = self.position, self.position, 0
        self._file.seek(start)
        wanted = max(n_bytes, self._step)
        self._step = NEXT_READ
        block = b""
        while len(block) < wanted and (more := self._file.read(wanted - len(block))):
            block += more
        self._block = block
        if len(block) < n_bytes:  # it shrank while we read
            raise self._cut(start + len(block))

    def _move(self, position: int) -> None:
        self._check(position)
        self._at = position - self._base
        if self._at > len(self._block):
            self._block, self._base, self._at = b"", position, 0

    def _check(self, position: int) -> None:
        if position > self.size:
            raise self._cut(self.size)
        if position > MAX_HEADER:
            raise GgufError(f"its header is longer than {MAX_HEADER >> 20} MiB")

    def _cut(self, end: int) -> GgufError:
        return GgufError(f"the file ends inside its header, after {end} bytes")
