"""Reasoning on the whole engine: a budget ends it, its tokens are counted, a stream says the same as one answer."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shimmy.engine import Engine
from shimmy.engine.types.event import Delta, Finished
from shimmy.engine.types.options import EngineOptions
from shimmy.engine.types.prompt import ChatPrompt, Message, Tool
from shimmy.engine.types.request import GenerateRequest
from shimmy.engine.types.sampling import SamplingParams
from tests.support import templates

ASK = [Message(role="user", content="hi")]
SEARCH = Tool(**templates.SEARCH["function"])


@pytest.fixture
async def thinker(tiny_gguf: Path) -> AsyncIterator[Engine]:
    """An engine whose template begins every answer with reasoning."""
    options = EngineOptions(
        model_path=str(tiny_gguf),
        n_threads=1,
        n_parallel=2,
        n_ctx=1024,
        chat_template=templates.source("deepseek-r1"),
    )
    async with Engine.solo(options) as engine:
        yield engine


async def ask(
    engine: Engine, prompt: ChatPrompt, max_tokens: int, *, ignore_eos: bool = True
) -> tuple[str, str, str, Finished]:
    """Return reasoning, text, the arguments of calls, and the end."""
    request = GenerateRequest(
        prompt=prompt,
        max_tokens=max_tokens,
        sampling=SamplingParams(seed=3, temperature=1.0, ignore_eos=ignore_eos),
    )
    reasoning, text, arguments = "", "", ""
    async for event in engine.generate(request):
        if isinstance(event, Delta):
            reasoning += event.reasoning
            text += event.text
            arguments += "".join(call.call.arguments for call in event.tool_calls)
        elif isinstance(event, Finished):
            return reasoning, text, arguments, event
    raise AssertionError("no end")


async def test_without_a_budget_all_of_it_is_reasoning(thinker: Engine) -> None:
    reasoning, text, _, end = await ask(thinker, ChatPrompt(messages=ASK), 24)
    assert reasoning
    assert text == ""
    assert end.usage.reasoning_tokens == end.usage.completion_tokens == 24


async def test_a_budget_ends_the_reasoning(thinker: Engine) -> None:
    prompt = ChatPrompt(messages=ASK, reasoning_budget=6)
    reasoning, text, _, end = await ask(thinker, prompt, 40)
    assert reasoning
    assert text
    assert "</think>" not in reasoning + text
    assert 1 <= end.usage.reasoning_tokens <= 6


async def test_a_budget_of_nothing_means_no_reasoning(thinker: Engine) -> None:
    prompt = ChatPrompt(messages=ASK, reasoning_budget=0)
    reasoning, text, _, end = await ask(thinker, prompt, 40)
    assert reasoning == ""
    assert text
    assert end.usage.reasoning_tokens == 0


async def test_a_forced_call_comes_after_the_reasoning(thinker: Engine) -> None:
    prompt = ChatPrompt(messages=ASK, tools=[SEARCH], tool_name="search", reasoning_budget=4)
    reasoning, text, arguments, end = await ask(thinker, prompt, 400, ignore_eos=False)
    assert reasoning
    assert text.strip() == ""
    assert arguments.startswith("{")
    if end.reason == "tool_calls":
        assert json.loads(arguments).keys() >= {"query", "exact"}


async def test_reasoning_that_is_not_split_is_text(thinker: Engine) -> None:
    prompt = ChatPrompt(messages=ASK, reasoning_budget=6, split_reasoning=False)
    reasoning, text, _, _ = await ask(thinker, prompt, 40)
    assert reasoning == ""
    assert text.startswith("<think>\n")
    assert "</think>" in text
