"""Deltas as what they are parts of: reasoning, text and tool calls, in the order in which they came."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from shimmy.engine.types.event import Delta, TokenLogprob

Kind = Literal["reasoning", "text", "call"]


@dataclass(slots=True, kw_only=True, eq=False)
class Part:
    """A stretch of one kind. Of a call, the text is its arguments, and `index` its number.

    `logprobs` are those of the tokens of a stretch of text, if they were asked for.
    """

    kind: Kind
    index: int = 0
    id: str = ""
    name: str = ""
    pieces: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All that came so far."""
        return "".join(self.pieces)


class Parts:
    """The parts of one answer while it grows."""

    def __init__(self) -> None:
        """Begin with none."""
        self.all: list[Part] = []
        self._calls: dict[int, Part] = {}
        # of tokens that showed no text yet
        self._scored: list[TokenLogprob] = []

    def add(self, delta: Delta) -> Iterator[tuple[Part, str]]:
        """Take in `delta`; yield each piece of text with the part that it belongs to.

        A part that is yielded for the first time is the last of `all`. A call's first piece may be
        empty. Within a delta, reasoning comes before text, and text before calls.
        """
        self._scored += delta.logprobs
        if delta.reasoning:
            self._scored = []
            yield self._grow(self._stretch("reasoning"), delta.reasoning)
        if delta.text:
            text = self._stretch("text")
            text.logprobs += self._scored
            self._scored = []
            yield self._grow(text, delta.text)
        for piece in delta.tool_calls:
            call = self._calls.get(piece.index)
            if call is None:
                call = self._calls[piece.index] = Part(kind="call", index=piece.index)
                self.all.append(call)
            call.id = call.id or piece.call.id
            call.name = call.name or piece.call.name
            yield self._grow(call, piece.call.arguments)

    def text_of(self, kind: Kind) -> str:
        """Return all text of a kind."""
        return "".join(part.text for part in self.all if part.kind == kind)

    @property
    def calls(self) -> list[Part]:
        """The calls, by their numbers."""
        return [part for _, part in sorted(self._calls.items())]

    def _stretch(self, kind: Kind) -> Part:
        if not self.all or self.all[-1].kind != kind:
            self.all.append(Part(kind=kind))
        return self.all[-1]

    def _grow(self, part: Part, text: str) -> tuple[Part, str]:
        if text:
            part.pieces.append(text)
        return part, text
