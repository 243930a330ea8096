"""OpenAI's official client against /v1/responses of a real server with the built-in model."""

from __future__ import annotations

import json

import openai
import pydantic
import pytest

from tests.support.served import Served

MODEL = "shimmy-demo"
ASK = {"model": MODEL, "input": "What is shimmy?", "temperature": 0}
FORECAST = {"model": MODEL, "input": "What is the weather in Paris?", "temperature": 0}
STORY = {"model": MODEL, "input": "Tell me a story."}
TOOL = {
    "type": "function",
    "name": "get_weather",
    "description": "Get the current weather in a city",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "description": "The city"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


def test_a_response_is_sensible_and_counted(client: openai.OpenAI):
    response = client.responses.create(**ASK)
    assert "inference server" in response.output_text
    assert response.status == "completed"
    usage = response.usage
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens


def without_ids(response) -> list[dict]:
    ids = {"id", "call_id", "parsed_arguments"}
    items = [item.model_dump(exclude=ids) for item in response.output]
    for item in items:
        for part in item.get("content") or ():
            part.pop("parsed", None)
    return items


@pytest.mark.parametrize("fields", [ASK, {**FORECAST, "tools": [TOOL]}], ids=["text", "call"])
def test_streaming_equals_non_streaming(client: openai.OpenAI, fields):
    whole = client.responses.create(**fields)
    with client.responses.stream(**fields) as stream:
        deltas = [e.delta for e in stream if e.type.endswith(("text.delta", "arguments.delta"))]
        final = stream.get_final_response()
    assert without_ids(final) == without_ids(whole)
    assert "".join(deltas) == (whole.output_text or whole.output[0].arguments)
    assert final.usage.output_tokens == whole.usage.output_tokens


@pytest.mark.parametrize(
    "choice", ["auto", "required", {"type": "function", "name": "get_weather"}], ids=str
)
def test_a_tool_is_called_and_its_result_is_used(client: openai.OpenAI, choice):
    first = client.responses.create(**FORECAST, tools=[TOOL], tool_choice=choice)
    (call,) = (item for item in first.output if item.type == "function_call")
    assert (call.name, json.loads(call.arguments)) == ("get_weather", {"city": "Paris"})
    result = {
        "type": "function_call_output",
        "call_id": call.call_id,
        "output": '{"weather": "sunny"}',
    }
    fields = {"model": MODEL, "tools": [TOOL], "temperature": 0}
    kept = client.responses.create(**fields, previous_response_id=first.id, input=[result])
    history = [{"role": "user", "content": FORECAST["input"]}, *first.output, result]
    sent = client.responses.create(**fields, input=history)
    assert kept.output_text
    assert kept.output_text == sent.output_text


def test_ids_of_calls_differ_from_turn_to_turn(client: openai.OpenAI):
    ids = {client.responses.create(**FORECAST, tools=[TOOL]).output[-1].call_id for _ in range(2)}
    assert len(ids) == 2


def test_a_format_constrains_the_answer(client: openai.OpenAI):
    class Sure(pydantic.BaseModel):
        sure: bool

    assert isinstance(client.responses.parse(**ASK, text_format=Sure).output_parsed, Sure)


def test_a_cut_answer_is_incomplete(client: openai.OpenAI):
    response = client.responses.create(**ASK, max_output_tokens=3)
    assert response.status == "incomplete"
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.usage.output_tokens == 3


def test_logprobs_stand_beside_the_text(client: openai.OpenAI):
    fields = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
    response = client.responses.create(**ASK, **fields)
    (part,) = response.output[0].content
    text = b"".join(bytes(entry.bytes) for entry in part.logprobs)
    assert text.decode().startswith(part.text)
    assert all(len(entry.top_logprobs) == 2 for entry in part.logprobs)
    with client.responses.stream(**ASK, **fields) as stream:
        found = [e for event in stream if event.type == "response.output_text.delta"
                 for e in event.logprobs]  # fmt: skip
    assert [e.token for e in found] == [e.token for e in part.logprobs][: len(found)]


def test_a_response_is_looked_up_listed_and_deleted(client: openai.OpenAI):
    first = client.responses.create(**ASK)
    second = client.responses.create(**{**ASK, "input": "And?"}, previous_response_id=first.id)
    assert client.responses.retrieve(first.id).output_text == first.output_text
    items = client.responses.input_items.list(second.id, order="asc").data
    assert [item.content[0].text for item in items] == [ASK["input"], first.output_text, "And?"]
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)


def test_counting_tokens_agrees_with_what_a_response_costs(client: openai.OpenAI):
    first = client.responses.create(**ASK)
    fields = {"input": "And?", "instructions": "Be brief.", "tools": [TOOL]}
    fields |= {"model": MODEL, "previous_response_id": first.id}
    counted = client.responses.input_tokens.count(**fields)
    assert counted.input_tokens == client.responses.create(**fields).usage.input_tokens


def test_a_conversation_too_long_is_a_bad_request_with_both_spellings(client: openai.OpenAI):
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(**{**ASK, "input": "word " * 9000})
    assert caught.value.code == "context_length_exceeded"
    assert caught.value.type == "exceed_context_size_error"


def test_leaving_a_stream_frees_its_place(client: openai.OpenAI, served: Served):
    for _ in range(9):
        with client.responses.create(**STORY, stream=True) as stream:
            next(event for event in stream if event.type == "response.output_text.delta")
    assert client.responses.create(**ASK).status == "completed"
    served.wait_idle()
