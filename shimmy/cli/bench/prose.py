"""Synthetic prompts: words without meaning, of which no two texts begin alike."""

from __future__ import annotations

import random

# common enough to be one token each in most vocabularies
_TEXT = """
apple bridge cloud dinner engine forest garden horse island journey kitchen light mountain number
ocean paper question river summer table uncle village window yellow zero animal bottle circle doctor
evening father glass hand iron jacket king letter morning night orange people quiet road stone train
under voice winter year zone answer body church door earth field gold house idea joke knife
"""
WORDS = tuple(_TEXT.split())


class Prose:
    """Texts of a number of words. Random, so that a server's cache of an earlier run is no help."""

    def __init__(self) -> None:
        """Begin somewhere in the words."""
        self._random = random.Random()  # noqa: S311 - no secret
        self._serial = self._random.randrange(len(WORDS) ** 2)

    def text(self, n_words: int) -> str:
        """Return words; of 3000 texts in a row no two begin with the same pair of words."""
        self._serial += 1
        high, low = divmod(self._serial, len(WORDS))
        begin = [WORDS[low], WORDS[high % len(WORDS)]]
        rest = self._random.choices(WORDS, k=max(0, n_words - len(begin)))
        return " ".join([*begin, *rest][: max(1, n_words)])
