"""Keeps control tokens out of what people write: their texts in a message stay text.

A template is rendered as one string, so a message that says `<|im_end|>` would end itself. Such
texts are put between two marks before the rendering; afterwards what lies between marks is
tokenised without special tokens. A conversation without such texts is rendered as it is.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from shimmy.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# noncharacters: valid in every text, and in none by accident
_MARKS = tuple(chr(code) for code in range(0xFDD0, 0xFDF0))


class ControlTexts:
    """The texts of a vocabulary's control tokens."""

    def __init__(self, texts: Iterable[str]) -> None:
        """`texts` may be many; messages are searched for their first two characters."""
        self._texts = frozenset(text for text in texts if text)
        self._lengths = sorted({len(text) for text in self._texts}, reverse=True)
        starts = sorted({text[:2] for text in self._texts})
        self._start = re.compile("|".join(map(re.escape, starts))) if starts else None

    def find(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield (start, end) of each control text in `text`, from left to right."""
        match = self._start.search(text) if self._start is not None else None
        while match is not None and self._start is not None:
            start, after = match.start(), match.start() + 1
            for length in self._lengths:
                if text[start : start + length] in self._texts:
                    after = start + length
                    yield start, after
                    break
            match = self._start.search(text, after)

    def within(self, texts: Iterable[str]) -> bool:
        """Whether one of `texts` holds a control text."""
        return any(next(self.find(text), None) is not None for text in texts)

    def __contains__(self, text: str) -> bool:
        """Whether `text` is a control text."""
        return text in self._texts


class Marks:
    """A pair of marks that is in none of a conversation's texts."""

    def __init__(self, texts: list[str]) -> None:
        """Choose the pair.

        Raises:
            InvalidRequestError: the texts hold every mark there is.
        """
        free = [mark for mark in _MARKS if not any(mark in text for text in texts)]
        if len(free) < 2:
            raise InvalidRequestError(
                "messages: the texts hold all of the noncharacters U+FDD0 to U+FDEF",
                param="messages",
            )
        self._open, self._close = free[:2]
        self._any = re.compile(f"[{self._open}{self._close}]")

    def put(self, control: ControlTexts, text: str) -> str:
        """Return `text` with every control text between marks."""
        parts, at = [], 0
        for start, end in control.find(text):
            parts += [text[at:start], self._open, text[start:end], self._close]
            at = end
        return "".join([*parts, text[at:]])

    def split(self, control: ControlTexts, rendered: str) -> list[tuple[str, bool]]:
        """Return the pieces of a rendered text, each with whether it is literal.

        A template may cut a text between the marks; what is left of a pair protects nothing.
        """
        pieces: list[tuple[str, bool]] = []
        for i, part in enumerate(rendered.split(self._open)):
            text, mark, rest = part.partition(self._close)
            if i and mark and text in control:
                pieces += [(text, True), (self._any.sub("", rest), False)]
            else:
                pieces.append((self._any.sub("", part), False))
        return [piece for piece in pieces if piece[0]]
