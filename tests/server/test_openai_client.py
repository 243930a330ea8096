"""The official client, as users have it, against a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import openai
import pydantic
import pytest

from shimmy import errors
from shimmy.engine.types.event import Accepted, Delta, ToolCallDelta
from shimmy.engine.types.prompt import ToolCall
from tests.server.conftest import Running
from tests.server.fakes import FakePool, finished

USER = [{"role": "user", "content": "Hi"}]


@pytest.fixture
async def connect() -> AsyncIterator:
    clients = []

    def to(server: Running, **kwargs) -> openai.AsyncOpenAI:
        client = openai.AsyncOpenAI(
            base_url=server.url + "/v1", **{"api_key": "none", "max_retries": 0, **kwargs}
        )
        clients.append(client)
        return client

    yield to
    for client in clients:
        await client.close()


async def test_chat(server, connect):
    answer = await connect(server).chat.completions.create(model="tiny", messages=USER)
    assert answer.choices[0].message.content == "Hello"
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (5, 3)
    assert answer.usage.prompt_tokens_details.cached_tokens == 0
    assert answer._request_id.startswith("req_")


async def test_chat_stream(server, connect):
    stream = await connect(server).chat.completions.create(
        model="tiny", messages=USER, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Hello"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens == 8


async def test_chat_stream_helper(server, connect):
    client = connect(server)
    async with client.chat.completions.stream(model="tiny", messages=USER) as stream:
        kinds = [event.type async for event in stream]
        answer = await stream.get_final_completion()
    assert "content.done" in kinds
    assert answer.choices[0].message.content == "Hello"


def weather(_request):
    def piece(**call):
        return Delta(tool_calls=[ToolCallDelta(index=0, call=ToolCall(**call))])

    return [
        Accepted(5),
        Delta(reasoning="They want weather."),
        piece(id="call_1", name="get_weather"),
        piece(arguments='{"city":'),
        piece(arguments='"Oslo"}'),
        finished("tool_calls"),
    ]


TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": {}}}]


async def test_tool_calls(start, connect):
    client = connect(await start(weather))
    answer = await client.chat.completions.create(model="tiny", messages=USER, tools=TOOLS)
    (call,) = answer.choices[0].message.tool_calls
    assert (call.id, call.function.name) == ("call_1", "get_weather")
    assert call.function.arguments == '{"city":"Oslo"}'
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.choices[0].message.reasoning_content == "They want weather."


async def test_tool_call_stream_helper_puts_the_pieces_together(start, connect):
    client = connect(await start(weather))
    async with client.chat.completions.stream(model="tiny", messages=USER, tools=TOOLS) as stream:
        done = [e async for e in stream if e.type == "tool_calls.function.arguments.done"]
        answer = await stream.get_final_completion()
    assert done[0].arguments == '{"city":"Oslo"}'
    (call,) = answer.choices[0].message.tool_calls
    assert (call.id, call.function.arguments) == ("call_1", '{"city":"Oslo"}')


class City(pydantic.BaseModel):
    name: str


async def test_parse_helper_sends_the_schema_and_reads_the_answer(start, connect):
    script = [Accepted(5), Delta(text='{"name":"Oslo"}'), finished()]
    server = await start(lambda _: script)
    answer = await connect(server).chat.completions.parse(
        model="tiny", messages=USER, response_format=City
    )
    assert answer.choices[0].message.parsed == City(name="Oslo")
    (request,) = server.engine.requests
    assert request.prompt.json_schema["properties"]["name"]["type"] == "string"


async def test_completions(server, connect):
    client = connect(server)
    answer = await client.completions.create(model="tiny", prompt="Once")
    assert answer.choices[0].text == "Hello"
    stream = await client.completions.create(model="tiny", prompt=[1, 2], stream=True)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == "Hello"


async def test_models(server, connect):
    client = connect(server)
    assert [model.id async for model in client.models.list()] == ["tiny", "org/big"]
    assert (await client.models.retrieve("org/big")).owned_by == "shimmy"


async def test_an_unknown_model_raises_not_found(server, connect):
    with pytest.raises(openai.NotFoundError) as caught:
        await connect(server).chat.completions.create(model="gpt-9", messages=USER)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


async def test_context_overflow_raises_bad_request_with_the_code(start, connect):
    client = connect(await start(lambda _: [errors.ContextLengthError(500, 128)]))
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(model="tiny", messages=USER, stream=True)
    assert caught.value.code == "context_length_exceeded"
    assert caught.value.type == "exceed_context_size_error"
    assert caught.value.body["n_ctx"] == 128


async def test_an_error_in_mid_stream_is_raised_with_its_message(start, connect):
    script = [Accepted(1), Delta(text="a"), 0.005, errors.EngineDeadError("the worker died")]
    client = connect(await start(lambda _: script))
    stream = await client.chat.completions.create(model="tiny", messages=USER, stream=True)
    with pytest.raises(openai.APIError, match="the worker died") as caught:
        async for _ in stream:
            pass
    assert caught.value.code == "engine_dead"


async def test_overload_is_retried(start, connect):
    pool = FakePool(error=errors.OverloadedError("busy", retry_after=1))
    server = await start(pool=pool)

    async def recover():
        await asyncio.sleep(0.1)
        pool.error = None

    healing = asyncio.create_task(recover())
    answer = await connect(server, max_retries=1).chat.completions.create(
        model="tiny", messages=USER
    )
    assert answer.choices[0].message.content == "Hello"
    await healing


async def test_a_model_that_cannot_be_loaded_is_not_retried(start, connect, caplog):
    caplog.set_level("INFO", "shimmy.access")
    server = await start(pool=FakePool(error=errors.ModelLoadError("bad magic")))
    with pytest.raises(openai.InternalServerError, match="bad magic"):
        await connect(server, max_retries=2).chat.completions.create(model="tiny", messages=USER)
    assert sum(record.name == "shimmy.access" for record in caplog.records) == 1


async def test_a_key_is_sent_and_checked(start, connect):
    server = await start(api_keys=("secret",))
    with pytest.raises(openai.AuthenticationError):
        await connect(server).models.list()
    assert (await connect(server, api_key="secret").models.list()).data


async def test_leaving_a_stream_cancels_the_request(start, connect):
    def forever(_request):
        yield Accepted(1)
        while True:
            yield Delta(text="a")
            yield 0.002

    server = await start(forever)
    stream = await connect(server).chat.completions.create(model="tiny", messages=USER, stream=True)
    async for _ in stream:
        break
    await stream.close()
    await server.engine.gone()
