"""Chat templates and output parsers: llama.cpp's `common/chat`, without any per-model Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from shimmy.llama._ffi import ffi, lib, raise_fault, take_text
from shimmy.llama.format import Format
from shimmy.llama.handle import Handle

if TYPE_CHECKING:
    from shimmy.llama.model import Model
    from shimmy.llama.tools import Tools


class TemplateInfo(msgspec.Struct, frozen=True):
    """What a template is and can; `explicit` is False when a built-in ChatML stands in for it.

    `tools`: it shows tools to the model and takes calls. `control` are the texts that the
    vocabulary turns into control tokens wherever special tokens are read; before each of the `cuts`
    a rendered text may be cut, and its parts have the tokens of the whole.
    """

    source: str
    explicit: bool
    enable_thinking: bool
    tools: bool
    caps: dict[str, bool]
    control: list[str]
    cuts: list[str]


class _Applied(msgspec.Struct, frozen=True):
    """The JSON of shm_chat_apply."""

    prompt: str
    sampler: dict[str, msgspec.Raw]
    stop: list[str]
    parser: msgspec.Raw


class Rendered(msgspec.Struct, frozen=True):
    """A conversation as the model reads it, and how its answer is to be sampled and parsed.

    `sampler` holds JSON fields for `RowSampler`, beside the grammar of `format`; `parser` configures
    an `OutputParser`, beside the rules of `format`; it is JSON's null when the output is the content
    as it stands.
    """

    prompt: str
    sampler: dict[str, msgspec.Raw]
    stop: list[str]
    parser: msgspec.Raw
    format: Format


class ChatTemplate(Handle):
    """A parsed template. Immutable: any thread may render with it."""

    def __init__(self, model: Model, source: str | None = None) -> None:
        """Parse the model's own template, or `source` (Jinja, or one of `built_in_templates`).

        What llama.cpp must find out about it is found out here, once.

        Raises:
            LlamaError: the template does not parse.
        """
        text = ffi.NULL if source is None else source.encode()
        ptr = lib.shm_chat_new(model.ptr, text)
        if ptr == ffi.NULL:
            raise_fault("parsing the chat template")
        super().__init__(ptr, lib.shm_chat_free, model)

    def info(self) -> TemplateInfo:
        """Return what the template is and can."""
        return _info.decode(take_text(lib.shm_chat_info(self.ptr), "reading the template"))

    def render(self, conversation: bytes, tools: Tools | None = None) -> Rendered:
        """Render `conversation`: JSON with messages and tools in OpenAI's form, the latter unless given.

        Raises:
            LlamaError, InvalidRequestError: this is no conversation, the template refused the
                messages, or the schema could not be used; which of the two is llama.cpp's choice.
        """
        known = ffi.NULL if tools is None else tools.ptr
        made = ffi.new("struct shm_format **")
        reply = lib.shm_chat_apply(self.ptr, conversation, len(conversation), known, made)
        text = take_text(reply, "rendering the conversation")
        shape = Format(made[0])
        out = _applied.decode(text)
        return Rendered(out.prompt, out.sampler, out.stop, out.parser, shape)


def built_in_templates() -> list[str]:
    """Return the names of the templates that llama.cpp has of its own."""
    text = take_text(lib.shm_chat_names(), "listing the chat templates")
    return msgspec.json.decode(text, type=list[str])


class CallPiece(msgspec.Struct, frozen=True):
    """A piece of tool call number `index`; `id` and `name` come with its first piece."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


class Pieces(msgspec.Struct, frozen=True):
    """What a feed added to the message."""

    content: str
    reasoning: str
    calls: list[CallPiece]


class _Diff(msgspec.Struct, frozen=True):
    """One entry of shm_parser_feed's answer."""

    content: str = ""
    reasoning: str = ""
    index: int = -1
    id: str = ""
    name: str = ""
    arguments: str = ""


class OutputParser(Handle):
    """Splits one answer into content, reasoning and tool calls. Thread: one at a time."""

    def __init__(self, config: bytes, shape: Format | None = None) -> None:
        """`config` is the `parser` of a `Rendered`, `shape` its `format`."""
        rules = ffi.NULL if shape is None else shape.ptr
        ptr = lib.shm_parser_new(config, len(config), rules)
        if ptr == ffi.NULL:
            raise_fault("making the output parser")
        super().__init__(ptr, lib.shm_parser_free)

    def feed(self, text: str, *, final: bool) -> Pieces:
        """Add text and return what is new; what does not parse comes as content."""
        data = text.encode()
        reply = lib.shm_parser_feed(self.ptr, data, len(data), final)
        diffs = _diffs.decode(take_text(reply, "parsing the output"))
        return Pieces(
            content="".join(diff.content for diff in diffs),
            reasoning="".join(diff.reasoning for diff in diffs),
            calls=[
                CallPiece(diff.index, diff.id, diff.name, diff.arguments)
                for diff in diffs
                if diff.index >= 0
            ],
        )


_info = msgspec.json.Decoder(TemplateInfo)
_applied = msgspec.json.Decoder(_Applied)
_diffs = msgspec.json.Decoder(list[_Diff])
