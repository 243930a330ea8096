"""Messages between a client of the engine and a worker, and their form on a pipe.

A frame is a 4-byte little-endian length and that many bytes of msgpack. Commands go down to the
worker, reports come up; a `Step` carries everything that one engine step has to say.
"""

from __future__ import annotations

import struct

import msgspec

from shimmy.engine.types.event import Event, Failed
from shimmy.engine.types.info import ModelInfo, SystemInfo
from shimmy.engine.types.options import EngineOptions
from shimmy.engine.types.request import GenerateRequest

HEADER = struct.Struct("<I")
MAX_FRAME = 256 * 1024 * 1024


class Load(msgspec.Struct, frozen=True, tag="load"):
    """Load the model; answered by `Loading`s and one `Ready` or `LoadFailed`."""

    options: EngineOptions


class Submit(msgspec.Struct, frozen=True, tag="submit"):
    """Run a request; its events come in `Step`s under `id`."""

    id: int
    request: GenerateRequest


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """Give up request `id`; no further event comes for it."""

    id: int


class Tokenize(msgspec.Struct, frozen=True, tag="tokenize"):
    """Answered by `Tokens` or `CallFailed`."""

    id: int
    text: str
    add_special: bool = True
    parse_special: bool = True


class Describe(msgspec.Struct, frozen=True, tag="describe"):
    """Ask what ggml sees here; answered by `System` or `CallFailed`. Needs no model."""

    id: int


class Close(msgspec.Struct, frozen=True, tag="close"):
    """End the worker: requests in flight end with `EngineClosedError`."""


Command = Load | Submit | Cancel | Tokenize | Describe | Close


class Loading(msgspec.Struct, frozen=True, tag="loading"):
    """Load progress, 0 to 1."""

    progress: float


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The model is loaded and takes requests."""

    info: ModelInfo


class LoadFailed(msgspec.Struct, frozen=True, tag="load_failed"):
    """The model could not be loaded; the worker ends after this."""

    failure: Failed


class Step(msgspec.Struct, frozen=True, tag="step"):
    """Events of one engine step, in order: (request id, event)."""

    events: list[tuple[int, Event]]


class Tokens(msgspec.Struct, frozen=True, tag="tokens"):
    """Answer to `Tokenize`."""

    id: int
    tokens: list[int]


class System(msgspec.Struct, frozen=True, tag="system"):
    """Answer to `Describe`."""

    id: int
    info: SystemInfo


class CallFailed(msgspec.Struct, frozen=True, tag="call_failed"):
    """A call could not be answered."""

    id: int
    failure: Failed


class Died(msgspec.Struct, frozen=True, tag="died"):
    """The engine thread ended by a fault; nothing follows."""

    failure: Failed


Report = Loading | Ready | LoadFailed | Step | Tokens | System | CallFailed | Died

_encoder = msgspec.msgpack.Encoder()
_commands: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)
_reports: msgspec.msgpack.Decoder[Report] = msgspec.msgpack.Decoder(Report)


def encode_frame(message: Command | Report) -> bytes:
    """Return `message` as one frame, header included."""
    body = _encoder.encode(message)
    return HEADER.pack(len(body)) + body


def decode_command(body: bytes) -> Command:
    """Return the command in a frame's body."""
    return _commands.decode(body)


def decode_report(body: bytes) -> Report:
    """Return the report in a frame's body."""
    return _reports.decode(body)
