"""Bodies of /v1/messages: what the engine is asked for, and what is refused."""

from __future__ import annotations

import json

import pytest

from shimmy.engine.types.prompt import Message, Tool, ToolCall
from shimmy.errors import InvalidRequestError
from shimmy.server.dialects import anthropic
from shimmy.server.errors import FieldError

HI = {"role": "user", "content": "Hi"}
BODY = {"model": "tiny", "max_tokens": 9, "messages": [HI]}
WEATHER = {"name": "get_weather", "description": "d", "input_schema": {"type": "object"}}
CLOCK = {"name": "get_time", "input_schema": {"type": "object"}}


def request(**fields):
    return anthropic.parse(json.dumps({**BODY, **fields}).encode()).request


def prompt(**fields):
    return request(**fields).prompt


def said(*turns, **fields) -> list[Message]:
    return prompt(messages=list(turns), **fields).messages


def user(*blocks) -> dict:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks) -> dict:
    return {"role": "assistant", "content": list(blocks)}


def text(words: str) -> dict:
    return {"type": "text", "text": words}


def refused(**fields) -> FieldError:
    with pytest.raises(InvalidRequestError) as caught:
        request(**fields)
    assert caught.value.param is not None
    assert caught.value.param.split("[")[0].split(".")[0] in caught.value.message
    return caught.value


# fields


def test_the_fields_reach_the_engine():
    asked = request(
        temperature=0.5, top_p=0.9, top_k=7, stop_sequences=["a", "b"], seed=3, min_p=0.1
    )
    assert asked.max_tokens == 9
    assert asked.stop == ["a", "b"]
    sampling = asked.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.5, 0.9, 7)
    assert (sampling.seed, sampling.min_p) == (3, 0.1)


def test_fields_of_no_effect_and_unknown_ones_are_accepted():
    request(
        metadata={"user_id": "x"},
        service_tier="auto",
        cache_control={"type": "ephemeral"},
        speed="standard",
        context_management={"edits": []},
        nobody_knows_this=1,
    )


@pytest.mark.parametrize("field", ["model", "max_tokens", "messages"])
def test_a_required_field_is_named(field):
    body = {name: value for name, value in BODY.items() if name != field}
    with pytest.raises(FieldError, match=f"{field} is required") as caught:
        anthropic.parse(json.dumps(body).encode())
    assert caught.value.param == field


WRONG = {
    "model": 1, "max_tokens": "9", "messages": "Hi", "system": 1, "temperature": "hot",
    "top_p": [], "top_k": 0.5, "stop_sequences": "END", "stream": "yes", "metadata": "x",
    "service_tier": "gold", "thinking": True, "tools": {}, "tool_choice": "auto",
    "output_config": "json", "cache_control": 1,
}  # fmt: skip


@pytest.mark.parametrize("field", WRONG)
def test_a_known_field_of_a_wrong_type_is_refused_and_named(field):
    error = refused(**{field: WRONG[field]})
    assert error.param == field or error.param.startswith(f"{field}.")
    assert error.code == "invalid_type"


UNSUPPORTED = {
    "container": "c_1", "mcp_servers": [{"type": "url"}], "speed": "fast",
    "context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]},
    "diagnostics": {"previous_message_id": "x"},
}  # fmt: skip


@pytest.mark.parametrize("field", UNSUPPORTED)
def test_a_known_field_that_does_not_work_is_refused_and_named(field):
    error = refused(**{field: UNSUPPORTED[field]})
    assert (error.param, error.code) == (field, "unsupported_parameter")


@pytest.mark.parametrize("value", [0, -1, 2**31])
def test_max_tokens_out_of_range_is_refused(value):
    assert refused(max_tokens=value).param == "max_tokens"


@pytest.mark.parametrize("stops", [[""], ["x"] * 65])
def test_stop_sequences_are_refused_by_their_own_name(stops):
    assert refused(stop_sequences=stops).param == "stop_sequences"


def test_a_value_out_of_range_is_named():
    assert refused(temperature=-1).param == "temperature"


# messages


def test_text_as_string_or_blocks():
    assert said(HI) == [Message(role="user", content="Hi")]
    assert said(user(text("a"), text("b"))) == [Message(role="user", content="a\nb")]


@pytest.mark.parametrize("system", ["Be brief.", [{"type": "text", "text": "Be brief."}]])
def test_the_system_prompt_is_a_string_or_blocks(system):
    assert said(HI, system=system)[0] == Message(role="system", content="Be brief.")


def test_a_system_turn_stays_where_it_is():
    roles = [m.role for m in said(HI, {"role": "system", "content": "x"}, HI)]
    assert roles == ["user", "system", "user"]


def test_a_call_and_its_result():
    use = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Paris"}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "sunny"}
    assert said(
        HI,
        assistant({"type": "thinking", "thinking": "hm", "signature": "s"}, text("Let me"), use),
        user(result, text("Well?")),
    ) == [
        Message(role="user", content="Hi"),
        Message(
            role="assistant",
            content="Let me",
            reasoning="hm",
            tool_calls=[ToolCall(id="toolu_1", name="get_weather", arguments='{"city":"Paris"}')],
        ),
        Message(role="tool", content="sunny", tool_call_id="toolu_1", name="get_weather"),
        Message(role="user", content="Well?"),
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [("a", "a"), ([text("a"), text("b")], "a\nb"), (None, ""), ([], "")],
)
def test_a_result_is_a_string_blocks_or_nothing(content, expected):
    result = {"type": "tool_result", "tool_use_id": "x", "content": content}
    assert said(user(result))[0].content == expected


def test_a_result_that_is_an_error_says_so():
    def result(words):
        return {"type": "tool_result", "tool_use_id": "x", "content": words, "is_error": True}

    assert said(user(result("no such city")))[0].content == "Error: no such city"
    assert said(user(result("ERROR 5")))[0].content == "ERROR 5"


def test_turns_of_one_role_in_a_row_become_one():
    messages = said(HI, HI, assistant(text("a")), assistant(text("b")), HI)
    assert [(m.role, m.content) for m in messages] == [
        ("user", "Hi\nHi"),
        ("assistant", "ab"),
        ("user", "Hi"),
    ]


BLOCKS = {
    "document": {"type": "document", "source": {}},
    "redacted_thinking": {"type": "redacted_thinking", "data": "x"},
    "server_tool_use": {"type": "server_tool_use", "id": "x", "name": "web_search", "input": {}},
}


@pytest.mark.parametrize("kind", BLOCKS)
def test_a_block_of_another_kind_is_refused_by_its_place_and_type(kind):
    error = refused(messages=[HI, user(text("see"), BLOCKS[kind])])
    assert error.param == "messages[1].content[1]"
    assert kind in error.message


@pytest.mark.parametrize(
    "source",
    [
        {"type": "text", "media_type": "text/plain", "data": "It is green."},
        {"type": "content", "content": "It is green."},
        {"type": "content", "content": [text("It is green.")]},
    ],
)
def test_a_document_of_text_is_text(source):
    document = {"type": "document", "title": "Sky", "context": "Old", "source": source}
    (message,) = said(user(document, text("Which colour?")))
    assert message.content == "Sky\nOld\nIt is green.\nWhich colour?"
    cited = {**document, "citations": {"enabled": True}}
    assert refused(messages=[user(cited)]).param == "messages[0].content[0].citations"


@pytest.mark.parametrize("kind", ["base64", "url", "file"])
def test_a_document_that_is_a_file_is_refused(kind):
    error = refused(messages=[user({"type": "document", "source": {"type": kind, "data": ""}})])
    assert error.param == "messages[0].content[0]"
    assert kind in error.message


INCOMPLETE = {
    "messages[0].content[0].text": user({"type": "text"}),
    "messages[0].content[0].tool_use_id": user({"type": "tool_result", "content": "x"}),
    "messages[0].content[0].id": assistant({"type": "tool_use", "name": "f", "input": {}}),
    "messages[0].content[0].name": assistant({"type": "tool_use", "id": "f", "input": {}}),
    "messages[0].content[0].input": assistant({"type": "tool_use", "id": "f", "name": "f"}),
    "messages[0].content[0].thinking": assistant({"type": "thinking"}),
}


@pytest.mark.parametrize("path", INCOMPLETE)
def test_an_incomplete_block_is_refused_by_what_it_lacks(path):
    error = refused(messages=[INCOMPLETE[path], HI])
    assert (error.param, error.code) == (path, "missing_required_parameter")


def test_no_messages_are_refused():
    assert refused(messages=[]).code == "invalid_messages"


def test_input_nested_too_deeply_is_refused():
    deep: dict = {}
    for _ in range(80):
        deep = {"a": deep}
    use = {"type": "tool_use", "id": "f", "name": "f", "input": deep}
    assert refused(messages=[assistant(use), HI]).param == "messages[0].content[0].input"


# prefill


def test_a_last_message_of_the_assistant_is_continued():
    asked = prompt(messages=[HI, {"role": "assistant", "content": "The answer is ("}])
    assert asked.continue_final
    assert asked.messages[-1].content == "The answer is ("
    assert not prompt().continue_final


def test_a_conversation_cannot_end_with_a_call():
    use = {"type": "tool_use", "id": "f", "name": "f", "input": {}}
    error = refused(messages=[HI, assistant(use)])
    assert "tool_result" in error.message


def test_a_prefilled_answer_cannot_begin_with_thinking():
    error = refused(
        messages=[HI, assistant(text("x"))], thinking={"type": "enabled", "budget_tokens": 4}
    )
    assert error.param == "thinking"


# thinking


def test_without_a_word_of_it_the_model_does_not_think():
    assert prompt().enable_thinking is False
    assert prompt(thinking={"type": "disabled"}).enable_thinking is False


def test_thinking_with_a_budget():
    asked = prompt(thinking={"type": "enabled", "budget_tokens": 8})
    assert (asked.enable_thinking, asked.reasoning_budget) == (True, 8)


def test_adaptive_thinking_has_no_budget():
    asked = prompt(thinking={"type": "adaptive"}, output_config={"effort": "high"})
    assert (asked.enable_thinking, asked.reasoning_budget) == (True, None)
    assert asked.template_kwargs == {"reasoning_effort": "high"}


@pytest.mark.parametrize("budget", [0, 9, 100, None])
def test_a_budget_that_cannot_be_is_refused(budget):
    thinking = {"type": "enabled", "budget_tokens": budget}
    assert refused(thinking=thinking).param == "thinking.budget_tokens"


def test_thinking_cannot_be_left_out_of_the_answer():
    thinking = {"type": "adaptive", "display": "omitted"}
    assert refused(thinking=thinking).param == "thinking.display"


# tools


def test_tools():
    asked = prompt(tools=[WEATHER, {**CLOCK, "type": "custom", "strict": True}])
    assert asked.tools == [
        Tool(name="get_weather", description="d", parameters={"type": "object"}),
        Tool(name="get_time", parameters={"type": "object"}),
    ]
    assert (asked.tool_choice, asked.tool_name, asked.parallel_tool_calls) == ("auto", None, True)


CHOICES = {
    "auto": ({"type": "auto"}, "auto", None),
    "any": ({"type": "any"}, "required", None),
    "tool": ({"type": "tool", "name": "get_time"}, "required", "get_time"),
    "none": ({"type": "none"}, "none", None),
}


@pytest.mark.parametrize("kind", CHOICES)
def test_tool_choice(kind):
    choice, expected, name = CHOICES[kind]
    asked = prompt(tools=[WEATHER, CLOCK], tool_choice=choice)
    assert (asked.tool_choice, asked.tool_name) == (expected, name)


def test_parallel_calls_can_be_switched_off():
    choice = {"type": "auto", "disable_parallel_tool_use": True}
    assert prompt(tools=[WEATHER], tool_choice=choice).parallel_tool_calls is False


@pytest.mark.parametrize(
    ("tools", "choice", "param"),
    [
        ([], {"type": "any"}, "tool_choice"),
        ([], {"type": "tool", "name": "f"}, "tool_choice"),
        ([WEATHER], {"type": "tool"}, "tool_choice.name"),
        ([WEATHER], {"type": "tool", "name": "f"}, "tool_choice.name"),
        ([WEATHER], {"type": "maybe"}, "tool_choice.type"),
    ],
)
def test_a_choice_that_no_tool_can_answer_is_refused(tools, choice, param):
    assert refused(tools=tools, tool_choice=choice).param == param


@pytest.mark.parametrize(
    ("tool", "param"),
    [
        ({"type": "web_search_20250305", "name": "web_search"}, "tools[0].type"),
        ({"name": "f"}, "tools[0].input_schema"),
        ({"input_schema": {}}, "tools[0].name"),
        ({"name": "", "input_schema": {}}, "tools[0].name"),
        ({**WEATHER, "input_examples": [{}]}, "tools[0].input_examples"),
        ({**WEATHER, "defer_loading": True}, "tools[0].defer_loading"),
    ],
)
def test_a_tool_that_cannot_be_is_refused(tool, param):
    assert refused(tools=[tool]).param == param


def test_two_tools_of_one_name_are_refused():
    assert refused(tools=[WEATHER, WEATHER]).param == "tools[1].name"


# structured output


@pytest.mark.parametrize("field", ["output_config", "output_format"])
def test_an_output_format_constrains_the_answer(field):
    form = {"type": "json_schema", "schema": {"type": "object"}}
    value = {"format": form} if field == "output_config" else form
    assert prompt(**{field: value}).json_schema == {"type": "object"}


def test_a_grammar_beside_a_format_is_refused():
    form = {"type": "json_schema", "schema": {}}
    assert refused(grammar="root ::= x", output_config={"format": form}).param == "grammar"


# counting


def test_counting_takes_the_same_prompt_without_max_tokens():
    body = {"model": "tiny", "messages": [HI], "system": "x", "tools": [WEATHER]}
    model, counted = anthropic.parse_count(json.dumps(body).encode())
    assert model == "tiny"
    assert counted == prompt(system="x", tools=[WEATHER])
