"""What every dialect module offers, and what passes between it and the handler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from shimmy.engine.types.event import Delta, Finished
from shimmy.engine.types.request import GenerateRequest
from shimmy.server.dialects.output import Echo, Output
from shimmy.server.errors import Problem

__all__ = ["Call", "Dialect", "Echo", "Head", "Output", "StreamEncoder"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A body, understood. `model` None or "" asks for the default one.

    `prompt_field` is the field that holds the prompt, for errors about its length. A body of several
    prompts has the further ones in `more`, all with the first one's `n`. With `echo` each choice
    begins with its prompt: the text, or None where only the engine can tell it (`PromptScored`).
    `best` keeps that many of each prompt's choices, the likeliest. `extra` is what the dialect's
    own encoders need of the body. The model stays loaded for `idle_unload` seconds after the answer
    (inf: for good), if the body says so. `names` has the engine's field names that differ from the
    body's, with the body's. With `default_limit` the body sets no `max_tokens`: it is the
    endpoint's own, and a model's goes before.
    """

    model: str | None
    prompt_field: str
    request: GenerateRequest
    stream: bool
    include_usage: bool = False
    more: tuple[GenerateRequest, ...] = ()
    echo: tuple[str | None, ...] = ()
    best: int | None = None
    extra: Any = None
    idle_unload: float | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    default_limit: bool = False

    @property
    def n_choices(self) -> int:
        """Choices of the answer, over all prompts."""
        return (self.best or self.request.n) * (1 + len(self.more))


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What stays the same through one answer; `created` in Unix seconds.

    `prompt_tokens` counts all prompts of the body.
    """

    id: str
    created: int
    model: str
    prompt_tokens: int = 0


class StreamEncoder(Protocol):
    """One stream's bytes, whole SSE events each. Methods may return b"" for nothing to say."""

    def opening(self) -> bytes:
        """Return what comes first, as soon as the request is accepted."""

    def delta(self, delta: Delta) -> bytes:
        """Return new output. Runs for every step of every stream: keep it cheap."""

    def finish(self, finished: Finished) -> bytes:
        """Return the end of a choice; after the last one the usage, if asked for, and the end mark."""

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

    def encode(self, call: Call, head: Head, output: Output) -> bytes:
        """Return the whole answer as JSON."""

    def stream(self, call: Call, head: Head) -> StreamEncoder:
        """Return the encoder of one stream."""

    def error_body(self, problem: Problem) -> bytes:
        """Return the JSON body of an error."""
