"""Messages between a client of the engine and a worker, and their form on a pipe.

A frame is a 4-byte little-endian length and that many bytes of msgpack. Commands go down to the
worker, reports come up; a `Step` carries everything that one engine step has to say.
"""

from __future__ import annotations

import struct

import msgspec

from shimmy.engine.types.event import Event, Failed
from shimmy.engine.types.info import ModelInfo, SystemInfo
from shimmy.engine.types.lora import LoraInfo
from shimmy.engine.types.options import EngineOptions
from shimmy.engine.types.plan import LoadPlan
from shimmy.engine.types.prompt import ChatPrompt, TextPrompt, TokenPrompt
from shimmy.engine.types.request import GenerateRequest
from shimmy.engine.types.slot import SlotDone, SlotInfo, SlotVerb
from shimmy.engine.types.stats import WorkerStats

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


class Detokenize(msgspec.Struct, frozen=True, tag="detokenize"):
    """Answered by `Pieces` or `CallFailed`."""

    id: int
    tokens: list[int]


class Render(msgspec.Struct, frozen=True, tag="render"):
    """Render a conversation with the model's template; answered by `Rendering` or `CallFailed`."""

    id: int
    prompt: ChatPrompt


class Embed(msgspec.Struct, frozen=True, tag="embed"):
    """Embed each input; answered by `Embedded` or `CallFailed`."""

    id: int
    inputs: list[TextPrompt | TokenPrompt]


class Rerank(msgspec.Struct, frozen=True, tag="rerank"):
    """Score each document against the query; answered by `Reranked` or `CallFailed`."""

    id: int
    query: str
    documents: list[str]


class Loras(msgspec.Struct, frozen=True, tag="loras"):
    """Ask for the adapters; answered by `LoraList` or `CallFailed`."""

    id: int


class SetLoras(msgspec.Struct, frozen=True, tag="set_loras"):
    """Change the default scales, 0 for those not named; answered by `LoraList` or `CallFailed`."""

    id: int
    scales: dict[int, float]


class Slots(msgspec.Struct, frozen=True, tag="slots"):
    """Ask for the slots; answered by `SlotList` or `CallFailed`."""

    id: int


class SlotAction(msgspec.Struct, frozen=True, tag="slot_action"):
    """Save, restore or erase what a slot's last request left; answered by `SlotResult`.

    `filename` is that of a session under `slot_save_path`; erasing needs none.
    """

    id: int
    slot: int
    verb: SlotVerb
    filename: str = ""


class Stats(msgspec.Struct, frozen=True, tag="stats"):
    """Ask for the worker's figures; answered by `StatsRead` or `CallFailed`, between steps or not."""

    id: int


class Describe(msgspec.Struct, frozen=True, tag="describe"):
    """Ask what ggml sees here; answered by `System` or `CallFailed`. Needs no model.

    `retry` tries backends again that failed their first use here, `recheck` all of them.
    """

    id: int
    retry: bool = False
    recheck: bool = False


class Plan(msgspec.Struct, frozen=True, tag="plan"):
    """Ask how a model would be loaded; answered by `Planned` or `CallFailed`. Needs no model."""

    id: int
    options: EngineOptions


class Close(msgspec.Struct, frozen=True, tag="close"):
    """End the worker: requests in flight end with `EngineClosedError`."""


Call = (
    Tokenize | Detokenize | Render | Embed | Rerank | Loras | SetLoras | Slots | SlotAction | Stats
)
"""Commands with one answer."""

Command = Load | Submit | Cancel | Call | Describe | Plan | Close


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


class Pieces(msgspec.Struct, frozen=True, tag="pieces"):
    """Answer to `Detokenize`: the bytes of each token, control tokens too."""

    id: int
    pieces: list[bytes]


class Rendering(msgspec.Struct, frozen=True, tag="rendering"):
    """Answer to `Render`: the text that the model would read, and how many tokens it is."""

    id: int
    text: str
    n_tokens: int


class Embedded(msgspec.Struct, frozen=True, tag="embedded"):
    """Answer to `Embed`, in the order of the inputs: little-endian float32s of Euclidean length 1.

    `n_tokens` counts each input's tokens.
    """

    id: int
    vectors: list[bytes]
    n_tokens: list[int]


class Reranked(msgspec.Struct, frozen=True, tag="reranked"):
    """Answer to `Rerank`, in the order of the documents: the higher, the closer to the query.

    `n_tokens` counts each pair's tokens.
    """

    id: int
    scores: list[float]
    n_tokens: list[int]


class LoraList(msgspec.Struct, frozen=True, tag="lora_list"):
    """Answer to `Loras` and `SetLoras`."""

    id: int
    loras: list[LoraInfo]


class SlotList(msgspec.Struct, frozen=True, tag="slot_list"):
    """Answer to `Slots`."""

    id: int
    slots: list[SlotInfo]


class SlotResult(msgspec.Struct, frozen=True, tag="slot_result"):
    """Answer to `SlotAction`."""

    id: int
    done: SlotDone


class StatsRead(msgspec.Struct, frozen=True, tag="stats_read"):
    """Answer to `Stats`."""

    id: int
    stats: WorkerStats


class System(msgspec.Struct, frozen=True, tag="system"):
    """Answer to `Describe`."""

    id: int
    info: SystemInfo


class Planned(msgspec.Struct, frozen=True, tag="planned"):
    """Answer to `Plan`."""

    id: int
    plan: LoadPlan


class CallFailed(msgspec.Struct, frozen=True, tag="call_failed"):
    """A call could not be answered."""

    id: int
    failure: Failed


class Died(msgspec.Struct, frozen=True, tag="died"):
    """The engine thread ended by a fault; nothing follows."""

    failure: Failed


Answer = (
    Tokens | Pieces | Rendering | Embedded | Reranked | LoraList | SlotList | SlotResult | StatsRead
)

Report = Loading | Ready | LoadFailed | Step | Answer | System | Planned | CallFailed | Died

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
