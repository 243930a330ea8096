"""Anthropic's official client, as users have it, against a real socket and a scripted engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import anthropic
import pydantic
import pytest

from shimmy import errors
from shimmy.engine.types.event import Accepted, Delta, ToolCallDelta
from shimmy.engine.types.prompt import ToolCall
from tests.server.conftest import Running
from tests.server.fakes import FakePool, finished

ASK = {"model": "tiny", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
TOOL = {"name": "f", "input_schema": {"type": "object"}}


@pytest.fixture
async def connect() -> AsyncIterator:
    clients = []

    def to(server: Running, **kwargs) -> anthropic.AsyncAnthropic:
        client = anthropic.AsyncAnthropic(
            base_url=server.url, **{"api_key": "none", "max_retries": 0, **kwargs}
        )
        clients.append(client)
        return client

    yield to
    for client in clients:
        await client.close()


def thinks_and_calls(_request):
    return [
        Accepted(5),
        Delta(reasoning="hm"),
        Delta(text="Let me see."),
        Delta(tool_calls=[ToolCallDelta(index=0, call=ToolCall(name="f"))]),
        Delta(tool_calls=[ToolCallDelta(index=0, call=ToolCall(arguments='{"a": '))]),
        Delta(tool_calls=[ToolCallDelta(index=0, call=ToolCall(arguments='"é"}'))]),
        Delta(tool_calls=[ToolCallDelta(index=1, call=ToolCall(name="g"))]),
        finished("tool_calls", cached=2),
    ]


async def test_a_message(server, connect):
    message = await connect(server).messages.create(**ASK)
    assert message.content[0].text == "Hello"
    assert (message.stop_reason, message.stop_sequence) == ("end_turn", None)
    assert (message.usage.input_tokens, message.usage.output_tokens) == (5, 3)
    assert message._request_id.startswith("req_")


async def test_a_stream_of_events(server, connect):
    stream = await connect(server).messages.create(**ASK, stream=True)
    kinds = [event.type async for event in stream]
    assert kinds == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


async def test_the_stream_helper_gives_text(server, connect):
    async with connect(server).messages.stream(**ASK) as stream:
        assert "".join([text async for text in stream.text_stream]) == "Hello"
        assert (await stream.get_final_message()).usage.output_tokens == 3


async def test_the_stream_helper_puts_thinking_and_calls_together(start, connect):
    server = await start(thinks_and_calls)
    client = connect(server)
    async with client.messages.stream(**ASK) as stream:
        final = await stream.get_final_message()
    thinking, text, f, g = final.content
    assert (thinking.thinking, thinking.signature) == ("hm", "shimmy")
    assert text.text == "Let me see."
    assert (f.name, f.input, g.name, g.input) == ("f", {"a": "é"}, "g", {})
    assert f.id != g.id
    assert final.stop_reason == "tool_use"
    usage = final.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens) == (3, 2)
    whole = await client.messages.create(**ASK)
    skipped = {"id": True, "content": {2: {"id"}, 3: {"id"}}}
    ours = final.model_dump(exclude=skipped, exclude_none=True)
    for block in ours["content"]:
        block.pop("parsed_output", None)
    assert ours == whole.model_dump(exclude=skipped, exclude_none=True)


async def test_what_came_out_can_be_sent_back(start, connect):
    server = await start(thinks_and_calls)
    client = connect(server)
    first = await client.messages.create(**ASK, tools=[TOOL])
    results = [
        {"type": "tool_result", "tool_use_id": block.id, "content": "ok"}
        for block in first.content
        if block.type == "tool_use"
    ]
    turns = [*ASK["messages"], first.to_param(), {"role": "user", "content": results}]
    await client.messages.create(**{**ASK, "messages": turns}, tools=[TOOL])
    _, answer, *said = server.engine.requests[-1].prompt.messages
    assert (answer.reasoning, answer.content) == ("hm", "Let me see.")
    assert [call.arguments for call in answer.tool_calls] == ['{"a":"é"}', "{}"]
    assert [(m.role, m.name) for m in said] == [("tool", "f"), ("tool", "g")]


async def test_models_are_listed_and_found(server, connect):
    client = connect(server)
    models = [model async for model in client.models.list()]
    assert [(model.id, model.type) for model in models] == [("tiny", "model"), ("org/big", "model")]
    assert models[0].created_at.year == 2023
    assert (await client.models.retrieve("tiny")).display_name == "tiny"
    with pytest.raises(anthropic.NotFoundError):
        await client.models.retrieve("claude")


async def test_counting_tokens(server, connect):
    counted = await connect(server).messages.count_tokens(
        model="tiny", messages=ASK["messages"], system="Be brief"
    )
    assert counted.input_tokens == 3


async def test_parse_constrains_the_answer_and_reads_it(start, connect):
    class City(pydantic.BaseModel):
        name: str

    server = await start(lambda _: [Accepted(1), Delta(text='{"name":"Paris"}'), finished()])
    message = await connect(server).messages.parse(**ASK, output_format=City)
    assert message.parsed_output == City(name="Paris")
    assert server.engine.requests[0].prompt.json_schema["required"] == ["name"]


@pytest.mark.parametrize(
    ("key", "status"), [({"api_key": "k"}, 200), ({"auth_token": "k"}, 200), ({}, 401)]
)
async def test_rule_auth_by_key_or_token(start, connect, key, status):
    server = await start(api_keys=("k",))
    client = connect(server, **({"api_key": None, **key} if key else {"api_key": "wrong"}))
    if status == 200:
        assert (await client.messages.create(**ASK)).content
        return
    with pytest.raises(anthropic.AuthenticationError) as caught:
        await client.messages.create(**ASK)
    assert caught.value.type == "authentication_error"


STATUSES = {
    400: (errors.InvalidRequestError("x", param="p"), anthropic.BadRequestError),
    404: (errors.ModelNotFoundError("x", []), anthropic.NotFoundError),
    429: (errors.OverloadedError("x"), anthropic.RateLimitError),
    500: (errors.DecodeError("x"), anthropic.InternalServerError),
    503: (errors.EngineDeadError("x"), anthropic.InternalServerError),
}


@pytest.mark.parametrize("status", STATUSES)
async def test_rule_status_becomes_its_class_with_type_and_message(start, connect, status):
    error, kind = STATUSES[status]
    server = await start(pool=FakePool(error=error))
    with pytest.raises(kind) as caught:
        await connect(server).messages.create(**ASK)
    assert caught.value.status_code == status
    assert caught.value.body["error"]["message"] == error.message
    assert caught.value.type == caught.value.body["error"]["type"]
    assert caught.value.request_id == caught.value.body["request_id"]


async def test_an_error_in_mid_stream_is_raised_with_its_message(start, connect):
    server = await start(lambda _: [Accepted(1), Delta(text="a"), errors.EngineDeadError("died")])
    async with connect(server).messages.stream(**ASK) as stream:
        with pytest.raises(anthropic.APIStatusError, match="died") as caught:
            await stream.get_final_message()
    assert caught.value.type == "overloaded_error"


@pytest.mark.parametrize(
    ("error", "n"), [(errors.InvalidRequestError("x"), 1), (errors.OverloadedError("x"), 2)]
)
async def test_clients_faults_are_not_sent_again_and_overload_is(start, connect, error, n):
    tries = []

    class Pool(FakePool):
        def use(self, name, **how):
            tries.append(name)
            return super().use(name, **how)

    if isinstance(error, errors.OverloadedError):
        error.retry_after = 0.01
    server = await start(pool=Pool(error=error))
    with pytest.raises(anthropic.APIStatusError):
        await connect(server, max_retries=1).messages.create(**ASK)
    assert len(tries) == n


async def test_leaving_a_stream_cancels_it(start, connect):
    server = await start(lambda _: [Accepted(1), Delta(text="a"), asyncio.Event()])
    async with connect(server).messages.stream(**ASK) as stream:
        async for event in stream:
            if event.type == "text":
                break
    await server.engine.gone()
