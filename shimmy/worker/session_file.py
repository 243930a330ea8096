"""The file of a saved session: its tokens, then pieces of its cells, each with a checksum.

Thread: any, but not the engine's: files are slow.
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from shimmy.errors import LlamaError
from shimmy.worker.resident import WORD

_MAGIC = b"shmsess2"
_HEADER = struct.Struct("<8sIIII")
"""Magic, fingerprint of the context, bytes of the adapters' mark and of the tokens, checksum of all these."""

_PIECE = struct.Struct("<IIQI")
"""Its first and last position, bytes and checksum; one that ends where it begins is a window."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What the cells at positions `begin` to `end`, excluded, hold; at `end` alone: its window."""

    begin: int
    end: int
    data: memoryview

    @property
    def is_window(self) -> bool:
        """Whether it is what the token at `end` sees in the layers of a sliding window."""
        return self.begin == self.end


class SessionWriter:
    """Writes a file that is there whole or not at all: it gets its name at the end of `with`."""

    def __init__(self, path: Path) -> None:
        """Raises OSError where it cannot be written."""
        self._path = path
        self._part = Path(f"{os.fspath(path)}.part")
        self._file = self._part.open("wb")
        self.n_bytes = 0

    def head(self, fingerprint: int, mark: bytes, tokens: bytes) -> None:
        """Write what the session is of."""
        numbers = (_MAGIC, fingerprint, len(mark), len(tokens))
        checksum = zlib.crc32(tokens, zlib.crc32(mark, zlib.crc32(_HEADER.pack(*numbers, 0))))
        self._write(_HEADER.pack(*numbers, checksum))
        self._write(mark)
        self._write(tokens)

    def piece(self, piece: Piece) -> None:
        """Write cells."""
        checksum = zlib.crc32(piece.data)
        self._write(_PIECE.pack(piece.begin, piece.end, piece.data.nbytes, checksum))
        self._write(piece.data)

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Give the file its name, or remove what there is of it."""
        try:
            self._file.close()
            if error is None:
                self._part.replace(self._path)
        finally:
            self._part.unlink(missing_ok=True)

    def _write(self, data: bytes | memoryview) -> None:
        self._file.write(data)
        self.n_bytes += len(data)


@dataclass(frozen=True, slots=True)
class SessionFile:
    """A whole and undamaged file, in memory."""

    fingerprint: int
    mark: bytes
    tokens: list[int]
    pieces: list[Piece]
    n_bytes: int


def read_session(path: Path) -> SessionFile:
    """Return what `SessionWriter` wrote; raises `LlamaError` for anything else, or OSError."""
    content = memoryview(path.read_bytes())
    try:
        magic, fingerprint, n_mark, n_token_bytes, checksum = _HEADER.unpack_from(content)
    except struct.error:
        raise LlamaError("it is no saved session") from None
    if magic != _MAGIC:
        raise LlamaError("it is no saved session")
    begin = _HEADER.size + n_mark
    end = begin + n_token_bytes
    blank = _HEADER.pack(magic, fingerprint, n_mark, n_token_bytes, 0)
    if len(content) < end or zlib.crc32(content[_HEADER.size : end], zlib.crc32(blank)) != checksum:
        raise LlamaError("it is damaged")
    if n_token_bytes % WORD:
        raise LlamaError("it is damaged: its last token is not whole")
    return SessionFile(
        fingerprint=fingerprint,
        mark=bytes(content[_HEADER.size : begin]),
        tokens=content[begin:end].cast("i").tolist(),
        pieces=_pieces(content[end:], n_token_bytes // WORD),
        n_bytes=len(content),
    )


def _pieces(content: memoryview, n_tokens: int) -> list[Piece]:
    """Return pieces that follow each other up to the last token, a window perhaps behind them."""
    pieces: list[Piece] = []
    done = 0
    while len(content) > 0:
        if len(content) < _PIECE.size:
            raise LlamaError("it is damaged: it ends too early")
        begin, end, n_bytes, checksum = _PIECE.unpack_from(content)
        data = content[_PIECE.size : _PIECE.size + n_bytes]
        if len(data) < n_bytes or zlib.crc32(data) != checksum:
            raise LlamaError("it is damaged: a checksum differs")
        if begin != done or not begin <= end <= n_tokens:
            raise LlamaError("it is damaged: its pieces do not follow each other")
        pieces.append(Piece(begin, end, data))
        done = end
        content = content[_PIECE.size + n_bytes :]
    if done != n_tokens:
        raise LlamaError("it is damaged: it ends too early")
    return pieces
