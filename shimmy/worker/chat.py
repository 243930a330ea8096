"""From a conversation to the tokens that the model reads, and what is known of its answer.

Thread: any; what is kept between requests is only ever replaced whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from shimmy.errors import InvalidRequestError, LlamaError
from shimmy.llama.tools import Tools
from shimmy.worker.chat_checks import blame, check, forced
from shimmy.worker.conversation import conversation_json, tool_json
from shimmy.worker.cut_tokens import CutTokens
from shimmy.worker.general_tools import as_text, with_tools
from shimmy.worker.literal import ControlTexts, Marks
from shimmy.worker.lru import Lru
from shimmy.worker.schema import answer_schema

if TYPE_CHECKING:
    from collections.abc import Callable

    from shimmy.engine.types.prompt import ChatPrompt, Message, Tool, ToolCall
    from shimmy.engine.types.sampling import SamplingParams
    from shimmy.llama.chat import ChatTemplate, Rendered
    from shimmy.llama.vocab import Vocab

_ANCHOR = "\n"

IMAGE = "<__media__>"
"""What a rendered conversation shows in the place of an image; llama.cpp's name for it."""
_MAX_TOOLS = 64
# read, they take several times as much
_MAX_TOOLS_BYTES = 8 << 20


class ChatRenderer:
    """Renders conversations for one model."""

    def __init__(self, vocab: Vocab, template: ChatTemplate) -> None:
        """Render with `template`, and tokenise with `vocab`."""
        info = template.info()
        self._vocab = vocab
        self._template = template
        self._native_tools = info.tools
        self._control = ControlTexts(info.control)
        self._cut_tokens = CutTokens(vocab, info.cuts)
        # those of the last requests, checked
        self._tools: Lru[Tools] = Lru(_MAX_TOOLS, _MAX_TOOLS_BYTES)

    def render(
        self, prompt: ChatPrompt, sampling: SamplingParams
    ) -> tuple[Rendered, list[list[int]]]:
        """Return the rendered conversation and its tokens: those before, between and after images.

        A schema of `sampling` is one of the conversation.

        Raises:
            InvalidRequestError: the template refuses it, its parts exclude each other, or a schema
                says what a grammar cannot hold.
        """
        check(prompt, sampling)
        messages = self._messages(prompt)
        marks = None
        texts = [text for message in messages for text in _texts(message)]
        if self._control.within(texts):
            marks = Marks(texts)
            messages = _marked(messages, self._control, marks, last=not prompt.continue_final)
        conversation = conversation_json(prompt, messages)
        if not forced(prompt):
            conversation["json_schema"] = answer_schema(prompt, sampling)
        tools = self._checked_tools(prompt.tools) if prompt.tools else None
        conversation["general_tools"] = not self._native_tools
        try:
            rendered = self._template.render(msgspec.json.encode(conversation), tools)
        except (LlamaError, InvalidRequestError) as error:
            param = blame(prompt, sampling, error.message)
            raise InvalidRequestError(error.message, param=param) from error
        if prompt.reasoning_budget is not None:
            budget = msgspec.Raw(msgspec.json.encode(prompt.reasoning_budget))
            sampler = rendered.sampler | {"reasoning_budget_tokens": budget}
            rendered = msgspec.structs.replace(rendered, sampler=sampler)
        pieces = [(rendered.prompt, False)]
        if marks is not None:
            pieces = marks.split(self._control, rendered.prompt)
            text = "".join(piece for piece, _ in pieces)
            rendered = msgspec.structs.replace(rendered, prompt=text)
        if not prompt.images:
            return rendered, [self._tokenize_pieces(pieces)]
        parts = split_at(prompt.image_mark, pieces)
        if len(parts) != len(prompt.images) + 1:
            raise InvalidRequestError(
                f"messages: the chat template shows {len(parts) - 1} of {len(prompt.images)} images",
                param="messages",
            )
        text = rendered.prompt.replace(prompt.image_mark, IMAGE)
        tokens = [self._tokenize_pieces(part, first=i == 0) for i, part in enumerate(parts)]
        return msgspec.structs.replace(rendered, prompt=text), tokens

    def _checked_tools(self, tools: list[Tool]) -> Tools:
        """Return the tools in OpenAI's form, with schemas that a grammar can hold."""
        key = msgspec.json.encode(tools)
        found = self._tools.find(key)
        if found is None:
            found = Tools(msgspec.json.encode([tool_json(tool) for tool in tools]))
            self._tools.keep(key, found)
        return found

    def _messages(self, prompt: ChatPrompt) -> list[Message]:
        """Return the messages as the template can take them."""
        if self._native_tools:
            return prompt.messages
        if prompt.tools and prompt.tool_choice != "none":
            return with_tools(prompt.messages, prompt.tools, parallel=prompt.parallel_tool_calls)
        return as_text(prompt.messages)

    def _tokenize(self, text: str) -> list[int]:
        """Tokenise rendered text: its BOS, if it has one, is not doubled."""
        tokens = self._ids(text, first=True, special=True)
        bos = self._vocab.bos
        if len(tokens) > 1 and tokens[0] == bos and tokens[1] == bos:
            del tokens[0]
        return tokens

    def _tokenize_pieces(self, pieces: list[tuple[str, bool]], *, first: bool = True) -> list[int]:
        """Tokenise (text, literal) pieces, as if they were one text; only the `first` has a BOS."""
        tokens: list[int] = []
        if not pieces or not pieces[0][1]:
            text = pieces[0][0] if pieces else ""
            tokens = self._tokenize(text) if first else self._ids(text, special=True)
        if len(pieces) < 2 and tokens:
            return tokens
        anchor = self._anchor()
        for text, literal in pieces[1:] if tokens else pieces:
            longer = self._ids(_ANCHOR + text, special=not literal)
            if anchor and longer[: len(anchor)] == anchor:
                tokens += longer[len(anchor) :]
            else:
                tokens += self._ids(text, special=not literal)
        return tokens

    def _anchor(self) -> list[int]:
        """What goes before a piece where the vocabulary puts a space before every text."""
        first = self._ids("x", special=False)[:1]
        spaced = bool(first) and self._vocab.token_to_piece(first[0]).startswith(b" ")
        return self._ids(_ANCHOR, special=False) if spaced else []

    def _ids(self, text: str, *, first: bool = False, special: bool) -> list[int]:
        if special:
            return self._cut_tokens.read(text, first=first)
        return self._vocab.tokenize(text, add_special=first, parse_special=False)


def split_at(mark: str, pieces: list[tuple[str, bool]]) -> list[list[tuple[str, bool]]]:
    """Return the (text, literal) pieces before, between and after the marks in them."""
    parts: list[list[tuple[str, bool]]] = [[]]
    for text, literal in pieces:
        for i, between in enumerate(text.split(mark)):
            if i:
                parts.append([])
            if between:
                parts[-1].append((between, literal))
    return parts


def _texts(message: Message) -> list[str]:
    calls = [text for call in message.tool_calls for text in (call.name, call.arguments)]
    return [message.content, message.reasoning or "", message.name or "", *calls]


def _marked(
    messages: list[Message], control: ControlTexts, marks: Marks, *, last: bool
) -> list[Message]:
    """Return the messages with control texts between marks; the last one only if `last`."""

    def mark(text: str) -> str:
        return marks.put(control, text)

    n_marked = len(messages) if last else len(messages) - 1
    return [_mapped(message, mark) for message in messages[:n_marked]] + messages[n_marked:]


def _mapped(message: Message, change: Callable[[str], str]) -> Message:
    def call(given: ToolCall) -> ToolCall:
        return msgspec.structs.replace(
            given, name=change(given.name), arguments=change(given.arguments)
        )

    return msgspec.structs.replace(
        message,
        content=change(message.content),
        reasoning=None if message.reasoning is None else change(message.reasoning),
        name=None if message.name is None else change(message.name),
        tool_calls=[call(given) for given in message.tool_calls],
    )
