"""Options of /v1/chat/completions beyond the plain question: choices, tools, thinking, prefill."""

from __future__ import annotations

import msgspec
import pytest

from shimmy.engine.types.prompt import ChatPrompt, Message, Tool, ToolCall
from shimmy.errors import InvalidRequestError
from shimmy.server.dialects import openai_chat as chat
from shimmy.server.dialects.types import Call

USER = {"role": "user", "content": "Hi"}
ASSISTANT = {"role": "assistant", "content": "Once"}


def function(name: str) -> dict:
    return {"name": name, "parameters": {"type": "object"}}


def tool(name: str) -> dict:
    return {"type": "function", "function": function(name)}


TOOLS = [tool("f"), tool("g")]
ENGINE_TOOLS = [Tool(name=name, parameters={"type": "object"}) for name in "fg"]


def parse(*messages: dict, **fields: object) -> Call:
    return chat.parse(msgspec.json.encode({"messages": messages or [USER], **fields}))


def prompt(*messages: dict, **fields: object) -> ChatPrompt:
    found = parse(*messages, **fields).request.prompt
    assert isinstance(found, ChatPrompt)
    return found


def refused(*messages: dict, **fields: object) -> tuple[str | None, str]:
    with pytest.raises(InvalidRequestError) as caught:
        parse(*messages, **fields)
    return caught.value.param, caught.value.code


def test_fields_that_reach_the_engine_as_they_are():
    request = parse(
        n=3, min_tokens=2, stop_token_ids=[7], timeout=1.5, cache_prompt=False, ignore_eos=True
    ).request
    assert (request.n, request.min_tokens, request.stop_token_ids) == (3, 2, [7])
    assert (request.timeout, request.cache_prompt) == (1.5, False)
    assert request.sampling.ignore_eos


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 0}, "n"),
        ({"n": 257}, "n"),
        ({"min_tokens": -1}, "min_tokens"),
        ({"stop_token_ids": [5, -1]}, "stop_token_ids[1]"),
        ({"timeout": 0}, "timeout"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"reasoning_budget": -2}, "reasoning_budget"),
        ({"thinking_budget_tokens": 2**31}, "thinking_budget_tokens"),
    ],
)
def test_values_that_cannot_be_are_named(fields, param):
    assert refused(**fields)[0] == param


def test_logprobs_are_asked_of_the_engine():
    assert parse().request.logprobs is None
    assert parse(logprobs=False, top_logprobs=0).request.logprobs is None
    assert parse(logprobs=True).request.logprobs == 0
    assert parse(logprobs=True, top_logprobs=5).request.logprobs == 5


def test_a_named_tool_choice_forces_that_tool():
    found = prompt(tools=TOOLS, tool_choice={"type": "function", "function": {"name": "g"}})
    assert (found.tool_choice, found.tool_name, found.tools) == ("required", "g", ENGINE_TOOLS)


def test_allowed_tools_hide_the_others():
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "g"}}]}
    found = prompt(tools=TOOLS, tool_choice={"type": "allowed_tools", "allowed_tools": allowed})
    assert (found.tool_choice, found.tool_name, found.tools) == (
        "required",
        None,
        ENGINE_TOOLS[1:],
    )


@pytest.mark.parametrize(
    ("choice", "param"),
    [
        ({"type": "function", "function": {"name": "h"}}, "tool_choice.function.name"),
        ({"type": "function"}, "tool_choice.function"),
        ({"type": "custom", "custom": {"name": "f"}}, "tool_choice.type"),
        ({"type": "allowed_tools"}, "tool_choice.allowed_tools"),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}},
         "tool_choice.allowed_tools.tools"),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [
            {"type": "function", "function": {"name": "h"}}]}},
         "tool_choice.allowed_tools.tools[0].function.name"),
        ({"function": {"name": "f"}}, "tool_choice.type"),
    ],
)  # fmt: skip
def test_a_tool_choice_that_names_nothing_there_is(choice, param):
    assert refused(tools=TOOLS, tool_choice=choice)[0] == param


def test_functions_are_tools():
    found = prompt(functions=[function("f"), function("g")])
    assert (found.tools, found.tool_choice) == (ENGINE_TOOLS, "auto")
    assert prompt(functions=[function("f")], function_call="none").tool_choice == "none"
    named = prompt(functions=[function("f"), function("g")], function_call={"name": "f"})
    assert (named.tool_choice, named.tool_name) == ("required", "f")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"functions": [function("f")], "function_call": {"name": "h"}}, "function_call.name"),
        ({"functions": [function("f")], "tools": TOOLS}, "functions"),
        ({"functions": [function("f")], "tool_choice": "auto"}, "functions"),
        ({"functions": [{"name": ""}]}, "functions[0].name"),
        ({"function_call": "auto"}, "function_call"),
        ({"functions": [function("f")], "function_call": "required"}, "function_call"),
    ],
)
def test_functions_that_cannot_be_taken(fields, param):
    assert refused(**fields)[0] == param


def test_a_function_call_and_its_result_in_the_conversation():
    found = prompt(
        USER,
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "1"},
    )
    assert found.messages[1].tool_calls == [ToolCall(id="f", name="f", arguments="{}")]
    assert found.messages[2] == Message(role="tool", content="1", tool_call_id="f", name="f")


@pytest.mark.parametrize(
    ("fields", "continues"),
    [
        ({}, True),
        ({"continue_final_message": True}, True),
        ({"continue_final_message": True, "add_generation_prompt": False}, True),
        ({"add_generation_prompt": False}, True),
        ({"continue_final_message": False}, False),
        ({"add_generation_prompt": True}, False),
    ],
)
def test_a_last_assistant_message_is_gone_on_with(fields, continues):
    assert prompt(USER, ASSISTANT, **fields).continue_final is continues


def test_a_last_message_of_others_is_answered():
    assert not prompt(USER).continue_final
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    assert not prompt(USER, {"role": "assistant", "tool_calls": [call]}).continue_final


@pytest.mark.parametrize(
    ("messages", "fields", "param"),
    [
        ([USER], {"continue_final_message": True}, "continue_final_message"),
        ([USER], {"add_generation_prompt": False}, "add_generation_prompt"),
        ([USER, ASSISTANT], {"continue_final_message": True, "add_generation_prompt": True},
         "continue_final_message"),
        ([USER, ASSISTANT], {"continue_final_message": False, "add_generation_prompt": False},
         "add_generation_prompt"),
    ],
)  # fmt: skip
def test_a_continuation_that_makes_no_sense(messages, fields, param):
    assert refused(*messages, **fields)[0] == param


@pytest.mark.parametrize(
    "name", ["reasoning_budget", "reasoning_budget_tokens", "thinking_budget_tokens"]
)
def test_reasoning_has_a_budget_under_llama_servers_names(name):
    assert prompt(**{name: 64}).reasoning_budget == 64
    assert prompt(**{name: 0}).reasoning_budget == 0
    assert prompt(**{name: -1}).reasoning_budget is None
    assert prompt().reasoning_budget is None


def test_reasoning_may_stay_in_the_text():
    assert prompt().split_reasoning
    assert prompt(reasoning_format="auto").split_reasoning
    assert prompt(reasoning_format="deepseek").split_reasoning
    assert not prompt(reasoning_format="none").split_reasoning


LLAMA_SERVERS = {
    "grammar_lazy": (False, True),
    "grammar_triggers": ([], [{"type": 1, "value": "a"}]),
    "n_cmpl": (1, 2),
    "n_discard": (0, 5),
    "n_probs": (0, 3),
    "parse_tool_calls": (True, False),
    "post_sampling_probs": (False, True),
    "reasoning_budget_message": ("", "enough"),
    "reasoning_control": (False, True),
    "return_progress": (False, True),
    "return_tokens": (False, True),
    "timings_per_token": (False, True),
}


@pytest.mark.parametrize("name", LLAMA_SERVERS)
def test_llama_servers_fields_that_are_not_supported_are_refused_not_ignored(name):
    harmless, other = LLAMA_SERVERS[name]
    assert parse(**{name: harmless}) == parse()
    assert refused(**{name: other}) == (name, "unsupported_parameter")


def test_n_predict_is_llama_servers_name_for_the_limit():
    assert parse(n_predict=5).request.max_tokens == 5
    assert parse(n_predict=5, max_tokens=3).request.max_tokens == 3
    assert parse(n_predict=5, max_completion_tokens=4).request.max_tokens == 4
    assert parse(n_predict=-1).request.max_tokens is None
    assert refused(n_predict=0) == ("n_predict", "invalid_max_tokens")
