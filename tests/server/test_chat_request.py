"""Bodies of /v1/chat/completions, as the engine's requests."""

from __future__ import annotations

import msgspec
import pytest

from shimmy.engine.types.prompt import ChatPrompt, Message, Tool, ToolCall
from shimmy.errors import InvalidRequestError
from shimmy.server.dialects import openai_chat as chat
from shimmy.server.dialects.types import Call

USER = {"role": "user", "content": "Hi"}
WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object"}, "strict": True},
}


def parse(*, messages: object = (USER,), **fields: object) -> Call:
    return chat.parse(msgspec.json.encode({"messages": messages, **fields}))


def prompt(**fields: object) -> ChatPrompt:
    found = parse(**fields).request.prompt
    assert isinstance(found, ChatPrompt)
    return found


def refused(**fields: object) -> tuple[str | None, str]:
    with pytest.raises(InvalidRequestError) as caught:
        parse(**fields)
    if caught.value.param:
        assert caught.value.param in caught.value.message
    return caught.value.param, caught.value.code


def test_defaults_are_openais():
    call = parse()
    assert (call.model, call.stream, call.include_usage) == (None, False, False)
    assert call.request.max_tokens is None
    assert call.request.prompt == ChatPrompt(messages=[Message(role="user", content="Hi")])


def test_null_is_absent():
    names = ["model", "stream", "stream_options", "max_tokens", "stop", "tools", "tool_choice",
             "response_format", "temperature", "n", "logprobs", "user", "seed"]  # fmt: skip
    assert parse(**dict.fromkeys(names)) == parse()


def test_developer_is_system():
    messages = prompt(messages=[{"role": "developer", "content": "Be brief"}, USER]).messages
    assert [message.role for message in messages] == ["system", "user"]


def test_text_parts_are_joined_by_line_ends():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert prompt(messages=[{"role": "user", "content": parts}]).messages[0].content == "a\nb"


def test_a_tool_loop_is_kept_whole():
    messages = [
        USER,
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "hm",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "22 C"},
    ]
    assert prompt(messages=messages).messages[1:] == [
        Message(
            role="assistant",
            reasoning="hm",
            tool_calls=[ToolCall(id="c1", name="f", arguments='{"a":1}')],
        ),
        Message(role="tool", tool_call_id="c1", content="22 C"),
    ]


def test_a_refusal_is_what_the_assistant_said():
    said = [{"role": "assistant", "content": None, "refusal": "No."}]
    assert prompt(messages=said).messages[0].content == "No."
    said = [{"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}]
    assert prompt(messages=said).messages[0].content == "No."


@pytest.mark.parametrize(
    ("messages", "param", "code"),
    [
        ([], "messages", "invalid_messages"),
        (None, "messages", "invalid_type"),
        ("Hi", "messages", "invalid_type"),
        ([{"content": "Hi"}], "messages[0].role", "missing_required_parameter"),
        ([{"role": "king", "content": "Hi"}], "messages[0].role", "invalid_type"),
        ([USER, {"role": "user"}], "messages[1].content", "invalid_messages"),
        ([{"role": "user", "content": 5}], "messages[0].content", "invalid_type"),
        ([{"role": "user", "content": [{"text": "a"}]}], "messages[0].content[0].type",
         "missing_required_parameter"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text",
         "missing_required_parameter"),
        ([{"role": "assistant", "tool_calls": [{"id": "1"}]}],
         "messages[0].tool_calls[0].function", "missing_required_parameter"),
        ([{"role": "assistant", "audio": {"id": "a"}}], "messages[0].audio",
         "unsupported_parameter"),
        ([{"role": "assistant", "function_call": {}}], "messages[0].function_call.name",
         "missing_required_parameter"),
        ([{"role": "function", "content": "1"}], "messages[0].name", "missing_required_parameter"),
    ],
)  # fmt: skip
def test_messages_that_cannot_be_taken(messages, param, code):
    assert refused(messages=messages) == (param, code)


@pytest.mark.parametrize("kind", ["input_audio", "file", "video_url"])
def test_a_part_that_is_neither_text_nor_image_is_named(kind):
    parts = [{"type": "text", "text": "What is this?"}, {"type": kind, kind: {"url": "data:"}}]
    assert refused(messages=[{"role": "user", "content": parts}]) == (
        "messages[0].content[1]",
        "unsupported_parameter",
    )


def test_missing_messages():
    with pytest.raises(InvalidRequestError) as caught:
        chat.parse(b'{"model":"tiny"}')
    assert (caught.value.param, caught.value.code) == ("messages", "missing_required_parameter")


def test_both_names_of_the_limit():
    assert parse(max_tokens=5).request.max_tokens == 5
    assert parse(max_completion_tokens=6).request.max_tokens == 6
    assert parse(max_tokens=5, max_completion_tokens=6).request.max_tokens == 6


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("value", [0, -1, 2**31])
def test_a_limit_out_of_range(name, value):
    assert refused(**{name: value}) == (name, "invalid_max_tokens")


def test_stop_is_a_string_or_a_list():
    assert parse(stop="a").request.stop == ["a"]
    assert parse(stop=["a", "b"]).request.stop == ["a", "b"]


def test_tools_and_their_choice():
    found = prompt(tools=[WEATHER], tool_choice="required", parallel_tool_calls=True)
    assert found.tools == [Tool(name="get_weather", parameters={"type": "object"})]
    assert (found.tool_choice, found.parallel_tool_calls) == ("required", True)
    assert prompt(tools=[WEATHER], tool_choice="none").tool_choice == "none"
    assert prompt(tools=[WEATHER]).tool_choice == "auto"


def test_parallel_tool_calls_are_on_unless_switched_off():
    assert prompt(tools=[WEATHER]).parallel_tool_calls
    assert not prompt(tools=[WEATHER], parallel_tool_calls=False).parallel_tool_calls
    assert not prompt(functions=[WEATHER["function"]]).parallel_tool_calls


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools[0].type", "unsupported_parameter"),
        ({"tools": [{"type": "function"}]}, "tools[0].function", "missing_required_parameter"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name",
         "missing_required_parameter"),
        ({"tools": [{"type": "function", "function": {"name": ""}}]}, "tools[0].function.name",
         "missing_required_parameter"),
        ({"tools": [WEATHER], "tool_choice": "always"}, "tool_choice", "invalid_type"),
        ({"tool_choice": "required"}, "tool_choice", "invalid_value"),
    ],
)  # fmt: skip
def test_tools_that_cannot_be_taken(fields, param, code):
    assert refused(**fields) == (param, code)


def test_response_formats():
    schema = {"type": "object"}
    assert prompt(response_format={"type": "text"}).json_schema is None
    assert prompt(response_format={"type": "json_object"}).json_schema == {}
    assert prompt(response_format={"type": "json_object", "schema": schema}).json_schema == schema
    named = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
    assert prompt(response_format=named).json_schema == schema


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({"type": "xml"}, "response_format.type"),
        ({}, "response_format.type"),
        ({"type": "json_schema"}, "response_format.json_schema.schema"),
        (
            {"type": "json_schema", "json_schema": {"name": "x"}},
            "response_format.json_schema.schema",
        ),
        (
            {"type": "json_schema", "json_schema": {"schema": 5}},
            "response_format.json_schema.schema",
        ),
    ],
)
def test_response_formats_that_cannot_be(form, param):
    assert refused(response_format=form)[0] == param


def test_a_schema_too_deep_to_carry():
    schema: dict = {}
    for _ in range(100):
        schema = {"items": schema}
    form = {"type": "json_schema", "json_schema": {"schema": schema}}
    assert refused(response_format=form)[0] == "response_format.json_schema.schema"


def test_a_grammar_and_a_schema_exclude_each_other():
    form = {"type": "json_object"}
    assert refused(response_format=form, grammar="root ::= [a]")[0] == "grammar"


def test_reasoning_effort_and_template_variables():
    assert prompt(reasoning_effort="none").enable_thinking is False
    assert prompt(reasoning_effort="high").template_kwargs == {"reasoning_effort": "high"}
    found = prompt(chat_template_kwargs={"enable_thinking": True, "x": 1})
    assert (found.enable_thinking, found.template_kwargs) == (True, {"x": 1})
    param, _ = refused(chat_template_kwargs={"enable_thinking": "yes"})
    assert param == "chat_template_kwargs.enable_thinking"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("audio", {"voice": "x"}),
        ("modalities", ["text", "audio"]), ("reasoning_format", "deepseek-legacy"),
        ("prediction", {"type": "content"}), ("store", True), ("verbosity", "high"),
        ("web_search_options", {}),
    ],
)  # fmt: skip
def test_a_known_field_that_is_not_supported_is_refused(name, value):
    assert refused(**{name: value}) == (name, "unsupported_parameter")


def test_obfuscation_is_refused():
    assert refused(stream_options={"include_obfuscation": True}) == (
        "stream_options.include_obfuscation",
        "unsupported_parameter",
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 1), ("logprobs", False), ("top_logprobs", 0), ("modalities", ["text"]),
        ("functions", []), ("function_call", "none"), ("store", False), ("verbosity", "medium"),
        ("user", "me"), ("metadata", {"a": "b"}), ("service_tier", "auto"),
        ("parallel_tool_calls", True), ("prompt_cache_key", "k"), ("safety_identifier", "s"),
        ("no_such_field", {"x": [1]}), ("stream_options", {"include_obfuscation": False}),
    ],
)  # fmt: skip
def test_what_changes_nothing_is_accepted(name, value):
    assert parse(**{name: value}) == parse()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", 5), ("stream", "true"), ("stream", 1), ("max_tokens", "5"), ("max_tokens", True),
        ("temperature", "hot"), ("temperature", True), ("stop", 5), ("tools", {}), ("n", "1"),
        ("n", True), ("n", 1.0), ("logprobs", 1), ("user", 5), ("seed", 1.5),
        ("tool_choice", 5), ("metadata", "x"), ("response_format", "json"), ("stream_options", True),
    ],
)  # fmt: skip
def test_a_known_field_of_a_wrong_type_is_named(name, value):
    assert refused(**{name: value}) == (name, "invalid_type")


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ('{"a": 1}', '{"a": 1}'),
        ("", "{}"),
        ('{"a": 1, "b": "cut of', '{"a":1}'),
        ('{"a": [1, 2', '{"a":[1,2]}'),
        ("no JSON", "{}"),
    ],
)
def test_the_arguments_of_an_earlier_call_may_have_been_cut_off(sent, read):
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": sent}}
    for said in ({"tool_calls": [call]}, {"function_call": call["function"]}):
        prompt = parse(messages=[{"role": "assistant", **said}, USER]).request.prompt
        assert prompt.messages[0].tool_calls[0].arguments == read
