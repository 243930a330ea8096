"""Phrase patterns: `{how do i|how can i} start {shimmy|the server}` stands for four phrases."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

_CHOICE = re.compile(r"\{([^{}]*)\}")
_TYPO_SHARE = 0.03


def expand(rng: random.Random, pattern: str) -> str:
    """Pick one alternative of every brace; inner braces first."""
    while _CHOICE.search(pattern):
        pattern = _CHOICE.sub(lambda m: rng.choice(m[1].split("|")), pattern)
    return pattern


def capital(text: str) -> str:
    """Return the text with a capital first letter, the rest untouched."""
    return text[:1].upper() + text[1:]


def article(noun: str) -> str:
    """Return the noun with `a` or `an` before it."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def roughen(rng: random.Random, question: str) -> str:
    """Write a question as people do: any case, with or without its mark, with a greeting before."""
    text = question
    roll = rng.random()
    if roll < 0.22:
        text = text.lower()
    elif roll < 0.24:
        text = text.upper()
    if text[-1] in "?." and rng.random() < 0.25:
        text = text[:-1]
    if rng.random() < 0.06:
        text = (
            rng.choice(["Hi! ", "Hello! ", "Hi, ", "Hello, ", "Hey, ", "hi ", "OK, ", "So, "])
            + text
        )
    elif rng.random() < 0.05:
        text = (
            rng.choice(["Please tell me: ", "Tell me: ", "Question: ", "Quick question: "]) + text
        )
    if rng.random() < 0.03:
        text += rng.choice([" Thanks!", " Thank you.", " Please.", " please"])
    if rng.random() < _TYPO_SHARE:
        text = _typo(rng, text)
    return text


def _typo(rng: random.Random, text: str) -> str:
    """Swap two neighbouring letters somewhere."""
    at = rng.randrange(max(1, len(text) - 1))
    pair = text[at : at + 2]
    return text[:at] + pair[::-1] + text[at + 2 :] if pair.isalpha() else text
