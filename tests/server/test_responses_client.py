"""OpenAI's official client and its strict helpers against /v1/responses and a scripted engine."""

from __future__ import annotations

import asyncio

import openai
import pydantic
import pytest

from shimmy import errors
from shimmy.engine.types.event import Accepted, Delta, ToolCallDelta
from shimmy.engine.types.prompt import ToolCall
from tests.server.fakes import finished
from tests.server.test_openai_client import connect

__all__ = ["connect"]

ASK = {"model": "tiny", "input": "Hi"}


def thinks_and_calls(_request):
    return [
        Accepted(5),
        Delta(reasoning="hm"),
        Delta(text="Let me see."),
        Delta(tool_calls=[ToolCallDelta(index=0, call=ToolCall(name="f"))]),
        Delta(tool_calls=[ToolCallDelta(index=0, call=ToolCall(arguments='{"a":'))]),
        Delta(tool_calls=[ToolCallDelta(index=0, call=ToolCall(arguments='"é"}'))]),
        Delta(tool_calls=[ToolCallDelta(index=1, call=ToolCall(name="g", arguments="{}"))]),
        finished("tool_calls", cached=2),
    ]


async def test_a_response(server, connect):
    response = await connect(server).responses.create(**ASK)
    assert response.output_text == "Hello"
    assert response.usage.input_tokens == 5
    assert response.usage.input_tokens_details.cached_tokens == 0
    assert response.usage.output_tokens_details.reasoning_tokens == 0
    assert response._request_id.startswith("req_")


async def test_a_stream_of_events(server, connect):
    stream = await connect(server).responses.create(**ASK, stream=True)
    found = [event async for event in stream]
    assert [event.sequence_number for event in found] == list(range(10))
    text = "".join(e.delta for e in found if e.type == "response.output_text.delta")
    assert text == "Hello"


async def test_rule_the_stream_helper_puts_everything_together(start, connect):
    server = await start(thinks_and_calls)
    client = connect(server)
    async with client.responses.stream(**ASK) as stream:
        snapshots = [e.snapshot async for e in stream if e.type == "response.output_text.delta"]
        final = await stream.get_final_response()
    assert snapshots == ["Let me see."]
    reasoning, message, f, g = final.output
    assert reasoning.content[0].text == "hm"
    assert message.content[0].text == "Let me see."
    assert (f.name, f.arguments, g.name, g.arguments) == ("f", '{"a":"é"}', "g", "{}")
    assert f.call_id != g.call_id
    whole = await client.responses.create(**ASK)
    assert whole.output_text == final.output_text
    assert [item.type for item in whole.output] == [item.type for item in final.output]
    assert whole.usage == final.usage


async def test_what_came_out_can_be_sent_back(start, connect):
    server = await start(thinks_and_calls)
    client = connect(server)
    first = await client.responses.create(**ASK, store=False)
    outputs = [
        {"type": "function_call_output", "call_id": item.call_id, "output": "ok"}
        for item in first.output
        if item.type == "function_call"
    ]
    history = [{"role": "user", "content": "Hi"}, *first.output, *outputs]
    await client.responses.create(model="tiny", input=history)
    _, answer, *said = server.engine.requests[-1].prompt.messages
    assert (answer.reasoning, answer.content) == ("hm", "Let me see.")
    assert [call.arguments for call in answer.tool_calls] == ['{"a":"é"}', "{}"]
    assert [(m.role, m.name) for m in said] == [("tool", "f"), ("tool", "g")]


@pytest.mark.parametrize("helper", ["parse", "stream"])
async def test_rule_text_format_constrains_and_is_parsed(start, connect, helper):
    class City(pydantic.BaseModel):
        name: str

    server = await start(lambda _: [Accepted(1), Delta(text='{"name":"Paris"}'), finished()])
    responses = connect(server).responses
    if helper == "parse":
        response = await responses.parse(**ASK, text_format=City)
    else:
        async with responses.stream(**ASK, text_format=City) as stream:
            response = await stream.get_final_response()
    assert response.output_parsed == City(name="Paris")
    schema = server.engine.requests[0].prompt.json_schema
    assert (schema["required"], schema["additionalProperties"]) == (["name"], False)


async def test_tools_from_models_are_called_with_parsed_arguments(start, connect):
    class F(pydantic.BaseModel):
        a: str

    server = await start(thinks_and_calls)
    tool = openai.pydantic_function_tool(F, name="f")["function"]
    tools = [{"type": "function", **tool}, {"type": "function", "name": "g", "strict": True}]
    response = await connect(server).responses.parse(**ASK, tools=tools)
    assert response.output[2].parsed_arguments == {"a": "é"}
    assert server.engine.requests[0].prompt.tools[0].name == "f"


async def test_rule_incomplete_is_an_event_of_its_own(start, connect):
    server = await start(lambda _: [Accepted(1), Delta(text="a"), finished("length")])
    responses = connect(server).responses
    response = await responses.create(**ASK)
    assert response.status == "incomplete"
    assert response.incomplete_details.reason == "max_output_tokens"
    async with responses.stream(**ASK) as stream:
        found = [event async for event in stream]
    assert found[-1].type == "response.incomplete"
    assert found[-1].response.output_text == "a"


async def test_rule_an_error_in_mid_stream_is_raised_with_its_message(start, connect):
    server = await start(lambda _: [Accepted(1), Delta(text="a"), errors.EngineDeadError("died")])
    client = connect(server)
    async with client.responses.stream(**ASK) as stream:
        with pytest.raises(openai.APIError, match="died") as caught:
            await stream.until_done()
    assert caught.value.code == "engine_dead"
    raw = await client.responses.create(**ASK, stream=True)
    with pytest.raises(openai.APIError, match="died"):
        [event async for event in raw]


async def test_turns_looking_up_items_and_deleting(server, connect):
    responses = connect(server).responses
    first = await responses.create(**ASK)
    second = await responses.create(model="tiny", input="And?", previous_response_id=first.id)
    assert (await responses.retrieve(second.id)).previous_response_id == first.id
    items = [item async for item in responses.input_items.list(second.id, limit=1, order="asc")]
    assert [item.role for item in items] == ["user", "assistant", "user"]
    await responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        await responses.retrieve(first.id)
    with pytest.raises(openai.BadRequestError) as caught:
        await responses.create(**ASK, previous_response_id=first.id)
    assert caught.value.code == "previous_response_not_found"
    with pytest.raises(openai.BadRequestError):
        await responses.cancel(second.id)


async def test_counting_tokens(server, connect):
    counted = await connect(server).responses.input_tokens.count(model="tiny", input="Hi you")
    assert (counted.input_tokens, counted.object) == (2, "response.input_tokens")


async def test_a_bad_field_is_a_bad_request_that_names_it(server, connect):
    with pytest.raises(openai.BadRequestError) as caught:
        await connect(server).responses.create(**ASK, truncation="auto")
    assert (caught.value.param, caught.value.code) == ("truncation", "unsupported_parameter")


async def test_leaving_a_stream_cancels_it(start, connect):
    server = await start(lambda _: [Accepted(1), Delta(text="a"), asyncio.Event()])
    async with connect(server).responses.stream(**ASK) as stream:
        async for event in stream:
            if event.type == "response.output_text.delta":
                break
    await server.engine.gone()
