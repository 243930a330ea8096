"""Ask an engine and collect the answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from shimmy.engine import Engine
from shimmy.engine.types.event import Accepted, Delta, Finished
from shimmy.engine.types.prompt import ChatPrompt, Message, Prompt, TextPrompt
from shimmy.engine.types.request import GenerateRequest
from shimmy.engine.types.sampling import SamplingParams

PROMPT = "the quick brown fox"


@dataclass
class Answer:
    deltas: list[str] = field(default_factory=list)
    reasoning: str = ""
    calls: list[Any] = field(default_factory=list)
    accepted: Accepted | None = None
    finished: Finished | None = None

    @property
    def text(self) -> str:
        return "".join(self.deltas)

    @property
    def end(self) -> Finished:
        assert self.finished is not None
        return self.finished


def request(
    prompt: str | Prompt = PROMPT,
    *,
    max_tokens: int | None = 16,
    min_tokens: int = 0,
    stop: list[str] | None = None,
    **sampling: Any,
) -> GenerateRequest:
    sampling.setdefault("temperature", 0.0)
    return GenerateRequest(
        prompt=TextPrompt(prompt) if isinstance(prompt, str) else prompt,
        sampling=SamplingParams(**sampling),
        max_tokens=max_tokens,
        min_tokens=min_tokens,
        stop=stop or [],
    )


def chat(text: str, **fields: Any) -> ChatPrompt:
    return ChatPrompt(messages=[Message(role="user", content=text)], **fields)


async def ask(
    engine: Engine,
    prompt: str | Prompt = PROMPT,
    *,
    generating: asyncio.Event | None = None,
    **fields: Any,
) -> Answer:
    """Collect the answer; `generating` is set when its first text arrives."""
    answer = Answer()
    async with engine.generate(request(prompt, **fields)) as generation:
        async for event in generation:
            match event:
                case Accepted():
                    assert answer.accepted is None
                    answer.accepted = event
                case Delta():
                    if generating is not None:
                        generating.set()
                    answer.deltas.append(event.text)
                    answer.reasoning += event.reasoning
                    answer.calls += event.tool_calls
                case Finished():
                    answer.finished = event
    return answer
