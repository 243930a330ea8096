"""Tokens of rendered conversations, whose beginnings come again: they are read once.

Thread: any; what is kept locks.
"""

from __future__ import annotations

import re
from array import array
from typing import TYPE_CHECKING

from shimmy.worker.lru import Lru

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from shimmy.llama.vocab import Vocab

_MAX_PARTS = 4096
_MAX_BYTES = 4 << 20
# characters: a shorter text is sooner read than looked up
_LEAST = 256


class CutTokens:
    """Tokenises texts with special tokens, in parts."""

    def __init__(self, vocab: Vocab, cuts: Iterable[str]) -> None:
        """Before each of the `cuts` a text may be cut: its parts have the tokens of the whole."""
        self._vocab = vocab
        words = [re.escape(cut) for cut in cuts]
        self._cut = re.compile("|".join(words)) if words else None
        self._kept: Lru[array[int]] = Lru(_MAX_PARTS, _MAX_BYTES)
        self._begin = [vocab.bos] if vocab.add_bos and vocab.bos is not None else []
        self._end = [vocab.eos] if vocab.add_eos and vocab.eos is not None else []

    def read(self, text: str, *, first: bool) -> list[int]:
        """Return the tokens of `text`, with those that the model adds if it is the `first`."""
        *parts, last = self._parts(text)
        if not parts:
            return self._vocab.tokenize(text, add_special=first, parse_special=True)
        tokens = list(self._begin) if first else []
        for part in parts:
            tokens.extend(self._known(part.encode("utf-8", "replace")))
        # what differs from request to request
        tokens += self._vocab.tokenize(last, add_special=False, parse_special=True)
        return tokens + self._end if first else tokens

    def _parts(self, text: str) -> Iterator[str]:
        """Yield parts that are long enough, and what is left; a longer text with the same beginning has the same."""
        begin = 0
        if self._cut is not None:
            for match in self._cut.finditer(text):
                if match.start() - begin >= _LEAST:
                    yield text[begin : match.start()]
                    begin = match.start()
        yield text[begin:]

    def _known(self, part: bytes) -> array[int]:
        found = self._kept.find(part)
        if found is None:
            found = array("i", self._vocab.tokenize(part, add_special=False, parse_special=True))
            self._kept.keep(part, found)
        return found
