"""Bodies of /v1/responses: what the engine is asked for, and what is refused."""

from __future__ import annotations

import json

import pytest

from shimmy.engine.types.prompt import Message, Tool, ToolCall
from shimmy.errors import InvalidRequestError
from shimmy.server.dialects.responses.request import parse, parse_count
from shimmy.server.errors import FieldError
from shimmy.server.response_store import ResponseStore
from tests.server.test_response_store import question, response

WEATHER = {"type": "function", "name": "get_weather", "parameters": {"type": "object"}}
CLOCK = {"type": "function", "name": "get_time", "description": "d", "strict": True}


def asked(*, memory=None, **fields):
    memory = ResponseStore() if memory is None else memory
    return parse(json.dumps({"input": "Hi", **fields}).encode(), memory)


def request(**fields):
    return asked(**fields).request


def prompt(**fields):
    return request(**fields).prompt


def said(*items, **fields) -> list[Message]:
    return prompt(input=list(items), **fields).messages


def message(role: str, *parts) -> dict:
    return {"type": "message", "role": role, "content": list(parts)}


def refused(**fields) -> FieldError:
    with pytest.raises(InvalidRequestError) as caught:
        asked(**fields)
    assert caught.value.param is not None
    assert caught.value.param.split("[")[0].split(".")[0] in caught.value.message
    return caught.value


USER = Message(role="user", content="Hi")


# fields


def test_the_fields_reach_the_engine():
    call = asked(model="tiny", max_output_tokens=9, temperature=0.5, top_p=0.9, seed=3, min_p=0.1)
    assert (call.model, call.stream, call.prompt_field) == ("tiny", False, "input")
    assert call.request.max_tokens == 9
    sampling = call.request.sampling
    assert (sampling.temperature, sampling.top_p) == (0.5, 0.9)
    assert (sampling.seed, sampling.min_p) == (3, 0.1)


def test_fields_of_no_effect_and_unknown_ones_are_accepted():
    asked(
        user="u", safety_identifier="s", prompt_cache_key="k", prompt_cache_retention="24h",
        service_tier="auto", max_tool_calls=3, metadata={"a": "b"}, truncation="disabled",
        background=False, context_management=[], stream_options={"include_obfuscation": False},
        nobody_knows_this=1,
    )  # fmt: skip


WRONG = {
    "model": 1, "input": 1, "instructions": [], "previous_response_id": 1, "tools": {},
    "tool_choice": 1, "parallel_tool_calls": "yes", "text": "json", "reasoning": "low",
    "stream": "yes", "max_output_tokens": "9", "store": "no", "metadata": {"a": 1},
    "include": "x", "temperature": "hot", "top_p": [], "top_logprobs": "2", "truncation": 1,
    "background": "no",
}  # fmt: skip


@pytest.mark.parametrize("field", WRONG)
def test_a_known_field_of_a_wrong_type_is_refused_and_named(field):
    error = refused(**{field: WRONG[field]})
    assert error.param.split("[")[0].split(".")[0] == field
    assert error.code == "invalid_type"


UNSUPPORTED = {
    "truncation": "auto", "background": True, "conversation": "conv_1", "prompt": {"id": "x"},
    "context_management": [{"type": "compaction"}], "moderation": {"model": "x"},
    "include": ["web_search_call.results"], "text": {"verbosity": "low"},
    "reasoning": {"summary": "detailed"}, "stream_options": {"include_obfuscation": True},
    "tools": [{"type": "web_search"}],
    "tool_choice": {"type": "web_search"},
}  # fmt: skip


@pytest.mark.parametrize("field", UNSUPPORTED)
def test_a_known_field_that_does_not_work_is_refused_and_named(field):
    error = refused(**{field: UNSUPPORTED[field]})
    assert error.param.split("[")[0].split(".")[0] == field
    assert error.code == "unsupported_parameter"


@pytest.mark.parametrize("value", [0, -1, 2**31])
def test_max_output_tokens_out_of_range_is_refused(value):
    assert refused(max_output_tokens=value).param == "max_output_tokens"


@pytest.mark.parametrize("value", [-1, 21])
def test_top_logprobs_out_of_range_is_refused(value):
    assert refused(top_logprobs=value).param == "top_logprobs"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"top_logprobs": 0}, None),
        ({"top_logprobs": 3}, 3),
        ({"include": ["message.output_text.logprobs"]}, 0),
        ({"include": ["message.output_text.logprobs"], "top_logprobs": 3}, 3),
    ],
)
def test_logprobs(fields, expected):
    assert request(**fields).logprobs == expected


# input


def test_input_is_a_string_or_messages_of_text():
    assert prompt(input="Hi").messages == [USER]
    assert said({"role": "user", "content": "Hi"}) == [USER]
    assert said(message("user", {"type": "input_text", "text": "Hi"})) == [USER]
    parts = [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]
    assert said(message("user", *parts))[0].content == "a\nb"


def test_instructions_and_what_developers_say_are_one_system_message():
    messages = prompt(
        instructions="Be brief.",
        input=[{"role": "developer", "content": "Be kind."}, {"role": "user", "content": "Hi"}],
    ).messages
    assert messages == [Message(role="system", content="Be brief.\n\nBe kind."), USER]


def test_a_call_its_reasoning_and_its_result():
    assert said(
        {"role": "user", "content": "Hi"},
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
        message("assistant", {"type": "output_text", "text": "Let me", "annotations": []}),
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"a": 1}'},
        {"type": "function_call", "call_id": "d", "name": "g", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "sunny"},
        {"type": "function_call_output", "call_id": "d",
         "output": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
    ) == [
        USER,
        Message(
            role="assistant",
            content="Let me",
            reasoning="hm",
            tool_calls=[
                ToolCall(id="c", name="f", arguments='{"a": 1}'),
                ToolCall(id="d", name="g", arguments="{}"),
            ],
        ),
        Message(role="tool", content="sunny", tool_call_id="c", name="f"),
        Message(role="tool", content="a\nb", tool_call_id="d", name="g"),
    ]  # fmt: skip


def test_a_summary_stands_for_reasoning_without_text():
    summary = [{"type": "summary_text", "text": "short"}]
    messages = said({"type": "reasoning", "summary": summary}, {"role": "user", "content": "Hi"})
    assert messages[0] == Message(role="assistant", reasoning="short")


def test_a_refusal_is_what_the_assistant_said():
    messages = said(message("assistant", {"type": "refusal", "refusal": "No."}))
    assert messages == [Message(role="assistant", content="No.")]


BAD_ITEMS = {
    "input[0].role": {"content": "x"},
    "input[0].content": {"role": "user"},
    "input[0].content[0].text": message("user", {"type": "input_text"}),
    "input[0].content[0]": message("user", {"type": "input_file", "file_id": "x"}),
    "input[0].call_id": {"type": "function_call", "name": "f", "arguments": "{}"},
    "input[0].name": {"type": "function_call", "call_id": "f", "arguments": "{}"},
    "input[0].arguments": {"type": "function_call", "call_id": "f", "name": "f"},
    "input[0].output": {"type": "function_call_output", "call_id": "f"},
    "input[0].type": {"type": "computer_call_output"},
    "input[0].id": {"type": "item_reference", "id": "msg_x"},
    "input[0].encrypted_content": {"type": "reasoning", "encrypted_content": "gAAAA"},
}


@pytest.mark.parametrize("path", BAD_ITEMS)
def test_an_item_that_cannot_be_is_refused_by_its_place(path):
    assert refused(input=[BAD_ITEMS[path]]).param == path


@pytest.mark.parametrize("value", [None, []])
def test_no_input_at_all_is_refused(value):
    assert refused(input=value).param == "input"


# what went before


def test_a_previous_response_comes_first_and_its_instructions_do_not():
    memory = ResponseStore()
    memory.add(response("resp_a"), [question("One?")])
    messages = prompt(memory=memory, previous_response_id="resp_a", instructions="x").messages
    assert [(m.role, m.content) for m in messages] == [
        ("system", "x"),
        ("user", "One?"),
        ("assistant", "Hello"),
        ("user", "Hi"),
    ]


def test_a_previous_response_that_is_gone_is_refused():
    error = refused(previous_response_id="resp_x")
    assert (error.param, error.code) == ("previous_response_id", "previous_response_not_found")


def test_an_item_can_be_referred_to():
    memory = ResponseStore()
    memory.add(response("resp_a"), [])
    reference = {"type": "item_reference", "id": "msg_resp_a"}
    messages = prompt(memory=memory, input=[reference, {"role": "user", "content": "Hi"}]).messages
    assert messages == [Message(role="assistant", content="Hello"), USER]


# tools


def test_tools():
    found = prompt(tools=[WEATHER, CLOCK])
    assert found.tools == [
        Tool(name="get_weather", parameters={"type": "object"}),
        Tool(name="get_time", description="d"),
    ]
    assert (found.tool_choice, found.tool_name, found.parallel_tool_calls) == ("auto", None, True)
    assert prompt(tools=[WEATHER], parallel_tool_calls=False).parallel_tool_calls is False


ALLOWED = {"type": "allowed_tools", "tools": [{"type": "function", "name": "get_time"}]}


@pytest.mark.parametrize(
    ("choice", "expected", "name", "n_tools"),
    [
        ("auto", "auto", None, 2),
        ("none", "none", None, 2),
        ("required", "required", None, 2),
        ({"type": "function", "name": "get_time"}, "required", "get_time", 2),
        ({**ALLOWED, "mode": "auto"}, "auto", None, 1),
        ({**ALLOWED, "mode": "required"}, "required", None, 1),
    ],
)
def test_tool_choice(choice, expected, name, n_tools):
    found = prompt(tools=[WEATHER, CLOCK], tool_choice=choice)
    assert (found.tool_choice, found.tool_name, len(found.tools)) == (expected, name, n_tools)


@pytest.mark.parametrize(
    ("choice", "param"),
    [
        ("maybe", "tool_choice"),
        ({"type": "function"}, "tool_choice.name"),
        ({"type": "function", "name": "f"}, "tool_choice.name"),
        ({"type": "allowed_tools", "mode": "auto", "tools": []}, "tool_choice.tools"),
        (
            {"type": "allowed_tools", "tools": [{"type": "function", "name": "f"}]},
            "tool_choice.tools[0].name",
        ),
    ],
)
def test_a_choice_that_no_tool_can_answer_is_refused(choice, param):
    assert refused(tools=[WEATHER], tool_choice=choice).param == param


def test_required_without_tools_is_refused():
    assert refused(tool_choice="required").param == "tool_choice"


@pytest.mark.parametrize("field", ["name", "type"])
def test_an_incomplete_tool_is_refused(field):
    tool = {name: value for name, value in WEATHER.items() if name != field}
    assert refused(tools=[tool]).param == f"tools[0].{field}"


# structured output


def test_a_text_format_constrains_the_answer():
    form = {"type": "json_schema", "name": "x", "strict": True, "schema": {"type": "object"}}
    assert prompt(text={"format": form}).json_schema == {"type": "object"}
    assert prompt(text={"format": {"type": "json_object"}}).json_schema == {}
    assert prompt(text={"format": {"type": "text"}}).json_schema is None


@pytest.mark.parametrize("field", ["name", "schema"])
def test_an_incomplete_format_is_refused(field):
    form = {"type": "json_schema", "name": "x", "schema": {}}
    del form[field]
    assert refused(text={"format": form}).param == f"text.format.{field}"


def test_a_grammar_beside_a_format_is_refused():
    assert refused(grammar="root ::= x", text={"format": {"type": "json_object"}})


# reasoning


def test_reasoning_effort_reaches_the_template_and_none_switches_it_off():
    found = prompt(reasoning={"effort": "low", "summary": "auto"})
    assert (found.template_kwargs, found.enable_thinking) == ({"reasoning_effort": "low"}, None)
    assert prompt(reasoning={"effort": "none"}).enable_thinking is False


# counting


def test_counting_takes_the_same_prompt():
    fields = {"input": "Hi", "instructions": "x", "tools": [WEATHER]}
    model, counted = parse_count(json.dumps({"model": "m", **fields}).encode(), ResponseStore())
    assert model == "m"
    assert counted == prompt(**fields)
