"""What was in cells once, kept in host memory: blocks of tokens' cells, or whole states, by their tokens.

Least recently used first out, by bytes. What does not sum up to what was put in is forgotten, never
handed out: llama.cpp trusts the sizes in a state. Nothing here touches llama.cpp.
"""

from __future__ import annotations

import threading
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import blake2b
from importlib import import_module
from typing import TYPE_CHECKING

from shimmy.worker.lora_set import NO_LORAS, LoraSet, salt
from shimmy.worker.medium import n_text
from shimmy.worker.resident import WORD

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray


SOON = 0.25
"""Seconds from the first use of the cells until everything is there that keeping them takes."""


@dataclass(frozen=True, slots=True)
class _Entry:
    data: NDArray[np.uint8]
    checksum: int


class HostCache:
    """At most `n_bytes` of data, each under the first tokens of a sequence. Thread: the engine's."""

    def __init__(self, n_bytes: int) -> None:
        """Empty."""
        self.max_bytes = n_bytes
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._n_bytes = 0
        self._expects = False

    def expect(self) -> None:
        """Get ready to keep something, beside the engine's thread: the import takes 50 ms, and all rows would wait."""
        if not self._expects:
            self._expects = True
            timer = threading.Timer(SOON, import_module, ["numpy"])
            timer.daemon = True
            timer.start()

    @property
    def n_bytes(self) -> int:
        """Bytes in use."""
        return self._n_bytes

    def __len__(self) -> int:
        """Return how many entries there are."""
        return len(self._entries)

    def __contains__(self, name: bytes) -> bool:
        """Whether there is something under a name of `names`."""
        return name in self._entries

    def put(self, name: bytes, data: NDArray[np.uint8]) -> bool:
        """Keep `data`, giving up what was used longest ago; False when it is too much by itself."""
        if data.nbytes > self.max_bytes:
            return False
        self.drop(name)
        while self._n_bytes + data.nbytes > self.max_bytes:
            _, oldest = self._entries.popitem(last=False)
            self._n_bytes -= oldest.data.nbytes
        self._entries[name] = _Entry(data, _checksum(data))
        self._n_bytes += data.nbytes
        return True

    def get(self, name: bytes) -> NDArray[np.uint8] | None:
        """Return what was kept, None when there is nothing or it is damaged."""
        entry = self._entries.get(name)
        if entry is None:
            return None
        if _checksum(entry.data) != entry.checksum:
            self.drop(name)
            return None
        return entry.data

    def touch(self, names: list[bytes]) -> None:
        """Note the use of a sequence's entries: its end is given up before its beginning."""
        for name in reversed(names):
            if name in self._entries:
                self._entries.move_to_end(name)

    def drop(self, name: bytes) -> None:
        """Forget what is under a name, if anything is."""
        entry = self._entries.pop(name, None)
        if entry is not None:
            self._n_bytes -= entry.data.nbytes


def names(tokens: bytes | bytearray, n_block: int, loras: LoraSet = NO_LORAS) -> Iterator[bytes]:
    """Yield what each whole block of a sequence is called.

    That is a digest of all tokens up to its end, and of the adapters they were computed with. What a
    sequence holds from its first medium on has no name: positions there are not tokens' numbers.
    """
    digest = blake2b(salt(loras), digest_size=16)
    view = memoryview(tokens)
    size = n_block * WORD
    n_bytes = n_text(tokens) * WORD
    for start in range(0, n_bytes - size + 1, size):
        digest.update(view[start : start + size])
        yield digest.digest()


def tail_name(tokens: bytes | bytearray, loras: LoraSet = NO_LORAS) -> bytes:
    """Return what the rest of a sequence behind its last whole block is called."""
    return blake2b(salt(loras) + tokens, digest_size=16, person=b"tail").digest()


def _checksum(data: NDArray[np.uint8]) -> int:
    """A sum at the speed of memory: a CRC takes three times as long as the copy itself."""
    import numpy as np

    n_words = data.nbytes // 8
    words = np.add.reduce(data[: n_words * 8].view(np.uint64))
    return int(words) ^ zlib.crc32(data[n_words * 8 :].data)
