"""From a conversation to the tokens that the model reads, and what is known of its answer.

Thread: any; what is kept between requests is only ever replaced whole.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from shimmy.errors import InvalidRequestError, LlamaError
from shimmy.llama.tools import Tools
from shimmy.worker.cut_tokens import CutTokens
from shimmy.worker.general_tools import as_text, with_tools
from shimmy.worker.literal import ControlTexts, Marks
from shimmy.worker.lru import Lru
from shimmy.worker.schema import answer_schema, schema_field, usable

if TYPE_CHECKING:
    from collections.abc import Callable

    from shimmy.engine.types.prompt import ChatPrompt, Message, Tool, ToolCall
    from shimmy.engine.types.sampling import SamplingParams
    from shimmy.llama.chat import ChatTemplate, Rendered
    from shimmy.llama.vocab import Vocab

_ROLE = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_ANCHOR = "\n"

IMAGE = "<__media__>"
"""What a rendered conversation shows in the place of an image; llama.cpp's name for it."""
_MAX_TOOLS = 64
# read, they take several times as much
_MAX_TOOLS_BYTES = 8 << 20
_SCHEMA_WORDS = ("grammar", "schema", "pattern")


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
        _check(prompt, sampling)
        messages = self._messages(prompt)
        marks = None
        texts = [text for message in messages for text in _texts(message)]
        if self._control.within(texts):
            marks = Marks(texts)
            messages = _marked(messages, self._control, marks, last=not prompt.continue_final)
        conversation = _conversation(prompt, messages)
        if not _forced(prompt):
            conversation["json_schema"] = answer_schema(prompt, sampling)
        tools = self._checked_tools(prompt.tools) if prompt.tools else None
        conversation["general_tools"] = not self._native_tools
        try:
            rendered = self._template.render(msgspec.json.encode(conversation), tools)
        except (LlamaError, InvalidRequestError) as error:
            param = _blame(prompt, sampling, error.message)
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
            found = Tools(msgspec.json.encode([_tool(tool) for tool in tools]))
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


def _check(prompt: ChatPrompt, sampling: SamplingParams) -> None:
    field = schema_field(prompt, sampling)
    offers = bool(prompt.tools) and prompt.tool_choice != "none"
    if prompt.tool_name is not None and prompt.tool_name not in {t.name for t in prompt.tools}:
        raise InvalidRequestError(
            f"tool_choice: there is no tool {prompt.tool_name!r} among the tools",
            param="tool_choice",
        )
    if prompt.tool_choice == "required" and not prompt.tools:
        raise InvalidRequestError(
            "tool_choice: required, but no tools are given", param="tool_choice"
        )
    if sampling.json_schema is not None and prompt.json_schema is not None:
        raise InvalidRequestError(
            "json_schema and response_format both constrain the answer: give one of them",
            param="json_schema",
        )
    if sampling.grammar is not None and (offers or field is not None):
        other = "tools" if offers else field
        raise InvalidRequestError(
            f"grammar and {other} both constrain the answer: give one of them", param="grammar"
        )
    if offers and not _forced(prompt) and field is not None:
        raise InvalidRequestError(
            f"{field}: a schema cannot be held while the model may call tools: "
            "use tool_choice none or required, or leave the schema out",
            param=field,
        )
    for message in prompt.messages:
        if not _ROLE.fullmatch(message.role):
            raise InvalidRequestError(
                f"messages: {message.role!r} is no name of a role", param="messages"
            )
    if prompt.images and not prompt.image_mark:
        raise InvalidRequestError(
            "image_mark: give the text that stands for each of the images in the messages",
            param="image_mark",
        )
    if prompt.continue_final:
        _check_continued(prompt)


def _check_continued(prompt: ChatPrompt) -> None:
    last = prompt.messages[-1] if prompt.messages else None
    if last is None or last.role != "assistant":
        raise InvalidRequestError(
            "messages: only an assistant's message can be continued, and it must be the last",
            param="messages",
        )
    if last.tool_calls:
        raise InvalidRequestError(
            "messages: a message with tool calls cannot be continued", param="messages"
        )


def _forced(prompt: ChatPrompt) -> bool:
    return prompt.tool_name is not None or prompt.tool_choice == "required"


def _blame(prompt: ChatPrompt, sampling: SamplingParams, message: str) -> str:
    """Which field of the request a refusal is about."""
    if any(word in message for word in _SCHEMA_WORDS):
        field = schema_field(prompt, sampling)
        if field is not None:
            return field
        if prompt.tools:
            return "tools"
    return "messages"


def _conversation(prompt: ChatPrompt, messages: list[Message]) -> dict[str, Any]:
    out: dict[str, Any] = {
        "messages": [_message(message) for message in messages],
        "tool_choice": "required" if _forced(prompt) else prompt.tool_choice,
        "tool_name": prompt.tool_name or "",
        "parallel_tool_calls": prompt.parallel_tool_calls,
        "template_kwargs": prompt.template_kwargs,
        "continue_final": prompt.continue_final,
        "split_reasoning": prompt.split_reasoning,
    }
    thinking = prompt.enable_thinking
    if thinking is None and prompt.reasoning_budget == 0:
        thinking = False
    if thinking is not None:
        out["enable_thinking"] = thinking
    return out


def _tool(tool: Tool) -> dict[str, Any]:
    name = f"tools: {tool.name}"
    parameters = usable(tool.parameters, name=name, param="tools", strict=False)
    function = {"name": tool.name, "description": tool.description, "parameters": parameters}
    return {"type": "function", "function": function}


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


def _message(message: Message) -> dict[str, Any]:
    """Return a message in OpenAI's form, which llama.cpp's chat code reads."""
    out: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.reasoning is not None:
        out["reasoning_content"] = message.reasoning
    if message.tool_calls:
        out["tool_calls"] = [
            {
                "type": "function",
                "id": call.id,
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        out["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        out["name"] = message.name
    return out
