"""Conversations made easy: plain arguments in, one `Reply` out, tools run on the way."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypedDict, Unpack

import msgspec

from shimmy.engine.types.event import Delta, Finished, FinishReason, Timings, Usage
from shimmy.engine.types.prompt import ChatPrompt, Message, Tool, ToolCall
from shimmy.engine.types.request import GenerateRequest
from shimmy.engine.types.sampling import SamplingParams
from shimmy.errors import InvalidRequestError, ShimmyError

if TYPE_CHECKING:
    from shimmy.engine.generation import Generation

Conversation: TypeAlias = str | Sequence[Message]
"""What the user says, or all turns so far."""

RunTool: TypeAlias = Callable[[ToolCall], str | Awaitable[str]]
"""Makes a call and returns what the tool says; may be a coroutine function."""

ToolChoice = Literal["auto", "none", "required"]


class Generates(Protocol):
    """Anything that generates, as `Engine` does."""

    def generate(self, request: GenerateRequest) -> Generation:
        """Start a request."""


class ChatOptions(TypedDict, total=False):
    """What `Engine.chat` and its kin take beside the conversation; all may be left out.

    The sampling words are those of `SamplingParams`; `sampling` gives all of them at once, and a
    word beside it wins. `json_schema` makes the answer JSON of that form.
    """

    system: str
    max_tokens: int | None
    stop: Sequence[str]
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    seed: int
    sampling: SamplingParams
    json_schema: dict[str, Any]
    enable_thinking: bool
    timeout: float


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer. `messages` is the conversation up to and with it, ready to be continued."""

    text: str
    reasoning: str
    tool_calls: list[ToolCall]
    finish_reason: FinishReason
    usage: Usage
    timings: Timings
    messages: list[Message]


def conversation(messages: Conversation) -> list[Message]:
    """Return the turns; a text is the user's."""
    if isinstance(messages, str):
        return [Message(role="user", content=messages)]
    return list(messages)


def chat_request(messages: list[Message], **options: Unpack[ChatOptions]) -> GenerateRequest:
    """Return the request that the arguments of `Engine.chat` describe.

    Raises:
        InvalidRequestError: an option that is not known; names it.
    """
    if unknown := options.keys() - ChatOptions.__annotations__.keys():
        name = min(unknown)
        known = ", ".join(ChatOptions.__annotations__)
        raise InvalidRequestError(f"chat has no option {name!r}; it has {known}", param=name)
    given: dict[str, Any] = {**options}
    sampling = given.get("sampling") or SamplingParams()
    words = {name: given[name] for name in _SAMPLING if name in given}
    turns = [Message(role="system", content=given["system"])] if "system" in given else []
    return GenerateRequest(
        prompt=ChatPrompt(
            messages=turns + messages,
            json_schema=given.get("json_schema"),
            enable_thinking=given.get("enable_thinking"),
        ),
        sampling=msgspec.structs.replace(sampling, **words),
        max_tokens=given.get("max_tokens"),
        stop=list(given.get("stop", ())),
        timeout=given.get("timeout"),
    )


_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "seed")


def with_tools(
    request: GenerateRequest, tools: Sequence[Tool], *, choice: ToolChoice, parallel: bool
) -> GenerateRequest:
    """Return the request, with tools that the model may call."""
    prompt = msgspec.structs.replace(
        _chat_prompt(request), tools=list(tools), tool_choice=choice, parallel_tool_calls=parallel
    )
    return msgspec.structs.replace(request, prompt=prompt)


async def collect(generation: Generation, messages: list[Message]) -> Reply:
    """Read a generation of one choice to its end; `messages` is what it answers."""
    text: list[str] = []
    reasoning: list[str] = []
    calls: dict[int, ToolCall] = {}
    async for event in generation:
        if isinstance(event, Delta):
            text.append(event.text)
            reasoning.append(event.reasoning)
            for piece in event.tool_calls:
                calls[piece.index] = _joined(calls.get(piece.index), piece.call)
        elif isinstance(event, Finished):
            return _reply(
                event, "".join(text), "".join(reasoning), _numbered(calls, messages), messages
            )
    raise ShimmyError("the engine ended the request without saying how")


async def run_tools(
    engine: Generates, request: GenerateRequest, run: RunTool | None, max_rounds: int
) -> Reply:
    """Ask, make the calls with `run`, ask again, until the model calls nothing more."""
    if max_rounds < 1:
        raise InvalidRequestError("max_rounds must be at least 1", param="max_rounds")
    for last in (*[False] * (max_rounds - 1), True):
        prompt = _chat_prompt(request)
        async with engine.generate(request) as generation:
            reply = await collect(generation, prompt.messages)
        if run is None or last or not reply.tool_calls:
            break
        said = [await _run(run, call) for call in reply.tool_calls]
        # a call that is required every time would never end
        choice: ToolChoice = "auto" if prompt.tool_choice == "required" else prompt.tool_choice
        prompt = msgspec.structs.replace(
            prompt, messages=reply.messages + said, tool_choice=choice, tool_name=None
        )
        request = msgspec.structs.replace(request, prompt=prompt)
    return reply


async def _run(run: RunTool, call: ToolCall) -> Message:
    result = run(call)
    content = await result if inspect.isawaitable(result) else result
    return Message(role="tool", content=content, tool_call_id=call.id, name=call.name)


def _chat_prompt(request: GenerateRequest) -> ChatPrompt:
    if not isinstance(request.prompt, ChatPrompt):
        raise TypeError("a conversation was expected")
    return request.prompt


def _joined(known: ToolCall | None, piece: ToolCall) -> ToolCall:
    if known is None:
        return piece
    return ToolCall(
        id=known.id or piece.id,
        name=known.name or piece.name,
        arguments=known.arguments + piece.arguments,
    )


def _numbered(calls: dict[int, ToolCall], messages: list[Message]) -> list[ToolCall]:
    """Give each call an id: some models give none, and the tool's answer must name it."""
    return [
        call if call.id else msgspec.structs.replace(call, id=f"call_{len(messages)}_{index}")
        for index, call in sorted(calls.items())
    ]


def _reply(
    end: Finished, text: str, reasoning: str, calls: list[ToolCall], messages: list[Message]
) -> Reply:
    answer = Message(role="assistant", content=text, reasoning=reasoning or None, tool_calls=calls)
    return Reply(
        text=text,
        reasoning=reasoning,
        tool_calls=calls,
        finish_reason=end.reason,
        usage=end.usage,
        timings=end.timings,
        messages=[*messages, answer],
    )
