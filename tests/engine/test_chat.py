"""`chat`, `stream_chat` and `chat_with_tools`, on the real engine with the tiny model."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

from shimmy.engine import Engine
from shimmy.engine.types.event import Delta, Finished
from shimmy.engine.types.prompt import Message, Tool, ToolCall
from shimmy.engine.types.sampling import SamplingParams
from shimmy.errors import InvalidRequestError

WEATHER = Tool(
    name="weather",
    description="The weather of a city",
    parameters={
        "type": "object",
        "properties": {"city": {"enum": ["Rome", "Oslo"]}, "days": {"type": "integer"}},
        "required": ["city"],
        "additionalProperties": False,
    },
)
FORCED = {"temperature": 0.0, "max_tokens": 200, "seed": 1}


def check_call(call: ToolCall) -> None:
    assert call.name == "weather"
    assert call.id
    arguments = json.loads(call.arguments)
    assert arguments["city"] in {"Rome", "Oslo"}
    assert arguments.keys() <= {"city", "days"}


async def test_chat_returns_text_counts_and_the_conversation(solo: Engine) -> None:
    reply = await solo.chat("hello", max_tokens=8, temperature=0)
    assert reply.text
    assert reply.usage.completion_tokens <= 8
    assert reply.finish_reason in {"stop", "length"}
    assert [message.role for message in reply.messages] == ["user", "assistant"]
    assert reply.messages[-1].content == reply.text
    more = [*reply.messages, Message(role="user", content="go on")]
    assert len((await solo.chat(more, max_tokens=4)).messages) == 4


async def test_the_chat_is_what_the_stream_says(solo: Engine) -> None:
    reply = await solo.chat("hello", max_tokens=12, temperature=0)
    text, ends = "", []
    async with solo.stream_chat("hello", max_tokens=12, temperature=0) as generation:
        async for event in generation:
            if isinstance(event, Delta):
                text += event.text
            elif isinstance(event, Finished):
                ends.append(event)
    assert text == reply.text
    assert len(ends) == 1
    assert ends[0].usage.completion_tokens == reply.usage.completion_tokens


async def test_options_reach_the_request(solo: Engine) -> None:
    plain = await solo.chat("hello", max_tokens=1)
    longer = await solo.chat("hello", max_tokens=1, system="You are a very patient assistant.")
    assert longer.usage.prompt_tokens > plain.usage.prompt_tokens
    stopped = await solo.chat(
        "hello",
        stop=["STOP"],
        sampling=SamplingParams(grammar='root ::= "go STOP go"', temperature=0.9),
        temperature=0,
    )
    assert stopped.text == "go "
    schema = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"]}
    answer = await solo.chat("hello", json_schema=schema, max_tokens=200, temperature=0)
    assert json.loads(answer.text)["n"] in {1, 2}


async def test_an_option_that_does_not_exist_is_named(solo: Engine) -> None:
    with pytest.raises(InvalidRequestError, match=r"no option 'temprature'.*temperature") as caught:
        await solo.chat("hello", temprature=0)  # type: ignore[call-arg]
    assert caught.value.param == "temprature"


async def test_solo_opens_no_socket(options, monkeypatch) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "bind", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    async with Engine.solo(options) as engine:
        assert engine.mode == "solo"
        assert (await engine.chat("hello", max_tokens=2)).usage.completion_tokens


async def test_a_required_tool_is_called_with_arguments_that_fit_its_schema(solo: Engine) -> None:
    reply = await solo.chat_with_tools("weather?", [WEATHER], tool_choice="required", **FORCED)
    assert reply.finish_reason == "tool_calls"
    (call,) = reply.tool_calls
    check_call(call)


async def test_calls_are_run_and_their_results_go_back_to_the_model(solo: Engine) -> None:
    made = []

    async def run(call: ToolCall) -> str:
        await asyncio.sleep(0)
        check_call(call)
        made.append(call)
        return "sunny, 21 degrees"

    reply = await solo.chat_with_tools(
        "weather?", [WEATHER], run=run, tool_choice="required", max_rounds=2, **FORCED
    )
    assert len(made) == 1
    assert [message.role for message in reply.messages] == [
        "user",
        "assistant",
        "tool",
        "assistant",
    ]
    assert reply.messages[2].content == "sunny, 21 degrees"
    assert reply.messages[2].tool_call_id == made[0].id


async def test_a_plain_function_runs_calls_too_and_its_error_is_raised(solo: Engine) -> None:
    def run(call: ToolCall) -> str:
        raise ZeroDivisionError(call.name)

    with pytest.raises(ZeroDivisionError, match="weather"):
        await solo.chat_with_tools("?", [WEATHER], run=run, tool_choice="required", **FORCED)
    assert solo.n_active == 0


async def test_the_last_round_returns_the_calls_it_still_wants(solo: Engine) -> None:
    reply = await solo.chat_with_tools(
        "?", [WEATHER], run=lambda _: "", tool_choice="required", max_rounds=1, **FORCED
    )
    assert len(reply.tool_calls) == 1
    with pytest.raises(InvalidRequestError, match="max_rounds"):
        await solo.chat_with_tools("?", [WEATHER], max_rounds=0)
