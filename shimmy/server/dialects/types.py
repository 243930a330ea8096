"""What every dialect module offers, and what passes between it and the handler."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from shimmy.engine.types.event import Delta, Finished
from shimmy.engine.types.prompt import ToolCall
from shimmy.engine.types.request import GenerateRequest
from shimmy.errors import ShimmyError
from shimmy.server.errors import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A body, understood. `model` None or "" asks for the default one.

    `prompt_field` is the field that holds the prompt, for errors about its length.
    """

    model: str | None
    prompt_field: str
    request: GenerateRequest
    stream: bool
    include_usage: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What stays the same through one answer; `created` in Unix seconds."""

    id: str
    created: int
    model: str


@dataclass(slots=True)
class _CallParts:
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)


class Output:
    """Deltas put together, for an answer in one piece."""

    def __init__(self) -> None:
        self.finished: Finished | None = None
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: dict[int, _CallParts] = {}

    def add(self, delta: Delta) -> None:
        """Append what `delta` brings."""
        self._text.append(delta.text)
        self._reasoning.append(delta.reasoning)
        for piece in delta.tool_calls:
            parts = self._calls.setdefault(piece.index, _CallParts())
            parts.id = parts.id or piece.call.id
            parts.name = parts.name or piece.call.name
            parts.arguments.append(piece.call.arguments)

    @property
    def text(self) -> str:
        """All content."""
        return "".join(self._text)

    @property
    def reasoning(self) -> str:
        """All reasoning."""
        return "".join(self._reasoning)

    @property
    def tool_calls(self) -> list[ToolCall]:
        """The calls, whole, by index."""
        return [
            ToolCall(id=parts.id, name=parts.name, arguments="".join(parts.arguments))
            for _, parts in sorted(self._calls.items())
        ]

    @property
    def end(self) -> Finished:
        """How it ended; only after it has."""
        if self.finished is None:
            raise ShimmyError("the generation has not finished")
        return self.finished


class StreamEncoder(Protocol):
    """One stream's bytes, whole SSE events each. Methods may return b"" for nothing to say."""

    def opening(self) -> bytes:
        """Return what comes first, as soon as the request is accepted."""

    def delta(self, delta: Delta) -> bytes:
        """Return new output. Runs for every step of every stream: keep it cheap."""

    def finish(self, finished: Finished) -> bytes:
        """Return the end: the reason, the usage if it was asked for, and the end mark."""

    def error(self, problem: Problem) -> bytes:
        """Return an error that comes after the stream began; nothing follows it."""


class Dialect(Protocol):
    """A module under `shimmy.server.dialects`."""

    def parse(self, body: bytes) -> Call:
        """Return what the body asks for.

        Raises:
            FieldError: it makes no sense, or is not supported; names the field.
        """

    def new_id(self) -> str:
        """Return an id for an answer."""

    def encode(self, head: Head, output: Output) -> bytes:
        """Return the whole answer as JSON."""

    def stream(self, call: Call, head: Head) -> StreamEncoder:
        """Return the encoder of one stream."""

    def error_body(self, problem: Problem) -> bytes:
        """Return the JSON body of an error."""
