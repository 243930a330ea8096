"""Real-world chat templates: rendering as Jinja2 renders, formats as llama.cpp makes them, calls that parse back.

`SHIMMY_TEST_CALLS` sets how many forced calls are made with each template; 10 by default.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import msgspec
import pytest

from shimmy.engine.types.prompt import ChatPrompt, Message, Tool
from shimmy.engine.types.sampling import SamplingParams
from shimmy.llama import Model
from shimmy.llama._ffi import ffi, lib, take_text
from shimmy.llama.chat import ChatTemplate, OutputParser, Rendered
from shimmy.worker.chat import ChatRenderer
from tests.support import templates
from tests.support.random_answer import random_answer

N_CALLS = int(os.environ.get("SHIMMY_TEST_CALLS", "10"))
TOOLS = [templates.WEATHER, templates.SEARCH]
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": " hi "},
    {"role": "assistant", "content": "hello"},
    {"role": "user", "content": "sö 日本?"},
]
CALLS = [
    {"role": "user", "content": "hi"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {
                "id": "call12345",
                "type": "function",
                "function": {"name": "search", "arguments": '{"query": "x", "exact": true}'},
            }
        ],
    },
    {"role": "tool", "content": "none", "tool_call_id": "call12345"},
    {"role": "assistant", "content": "nothing there"},
    {"role": "user", "content": "bye"},
]


@pytest.fixture(params=templates.NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(name: str, tiny_of: Callable[..., Path]) -> Iterator[Model]:
    """A model that carries the template in its metadata."""
    text = (templates.source(name), gguf.GGUFValueType.STRING)
    with Model.load(tiny_of(fields={"tokenizer.chat_template": text})) as model:
        yield model


@pytest.fixture
def template(model: Model) -> Iterator[ChatTemplate]:
    with ChatTemplate(model) as template:
        yield template


def with_objects(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return messages as transformers take them: the arguments of calls are objects."""
    out = copy.deepcopy(messages)
    for message in out:
        for call in message.get("tool_calls", ()):
            call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    return out


def talks(name: str) -> Iterator[tuple[list[dict[str, Any]], dict[str, Any]]]:
    yield TALK, {}
    yield TALK[1:], {}
    if name in templates.TOOLS:
        yield TALK, {"tools": TOOLS}
        yield CALLS, {"tools": TOOLS}
    if name in templates.THINKING:
        yield TALK, {"enable_thinking": False}


def test_the_rendering_is_jinja2s(name: str, template: ChatTemplate) -> None:
    for messages, more in talks(name):
        got = template.render(json.dumps({"messages": messages} | more).encode()).prompt
        assert got == templates.render(templates.source(name), with_objects(messages), **more)


def test_a_model_says_whether_it_takes_tools_and_thinks(name: str, template: ChatTemplate) -> None:
    info = template.info()
    assert info.explicit
    assert info.tools == (name in templates.TOOLS)
    assert info.enable_thinking == (name in templates.THINKING | {"harmony"})


@pytest.mark.parametrize(
    "more", [{}, {"parallel_tool_calls": True}, {"tool_choice": "none"}, {"json_schema": {}}]
)
def test_the_kept_analysis_gives_what_llama_cpp_gives(
    name: str, template: ChatTemplate, more: dict[str, Any]
) -> None:
    if "json_schema" in more:
        more = {"json_schema": templates.WEATHER["function"]["parameters"]}
    for messages, given in talks(name):
        if "tools" in given and "json_schema" in more:
            continue
        body = json.dumps({"messages": messages} | given | more).encode()
        ours = json.loads(
            take_text(lib.shm_chat_apply(template.ptr, body, len(body), ffi.NULL, ffi.NULL), "")
        )
        theirs = json.loads(take_text(lib.shm_chat_reference(template.ptr, body, len(body)), ""))
        if "grammar" in theirs["sampler"]:
            # llama.cpp's rule for strings allows what is no JSON
            loose, strict = r'[^"\\] | "\\" ( ["\\/ bfnrt]', r'[^"\\\x00-\x1F] | "\\" ( ["\\/bfnrt]'
            theirs["sampler"]["grammar"] = theirs["sampler"]["grammar"].replace(loose, strict)
        several = bool(more.get("parallel_tool_calls"))
        if "tools" in given and not several and name != "harmony":
            # llama.cpp allows several calls where each has tags of its own, asked for or not
            grammars = [one["sampler"].pop("grammar", "") for one in (ours, theirs)]
            assert bool(grammars[0]) == bool(grammars[1])
        assert ours["sampler"] == theirs["sampler"]
        assert (ours["prompt"], ours["stop"]) == (theirs["prompt"], theirs["stop"])
        if ours["parser"] is not None:
            assert ours["parser"]["arena"] == theirs["parser"]["arena"]


def fits(value: Any, schema: dict[str, Any], *, tagged: bool = False) -> bool:
    """Whether a value is what the tools' schemas above ask for.

    `tagged`: the template writes strings between tags, as they are; llama.cpp takes any text there.
    """
    if tagged and schema["type"] == "string":
        return isinstance(value, str)
    if "enum" in schema:
        return value in schema["enum"]
    match schema["type"]:
        case "string":
            return isinstance(value, str) and len(value) <= schema.get("maxLength", len(value))
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            return isinstance(value, int) and schema["minimum"] <= value <= schema["maximum"]
        case "array":
            return len(value) <= schema["maxItems"] and all(fits(v, schema["items"]) for v in value)
    properties = schema["properties"]
    return set(schema["required"]) <= set(value) <= set(properties) and all(
        fits(v, properties[k], tagged=tagged) for k, v in value.items()
    )


def parse(rendered: Rendered, text: str) -> tuple[str, list[tuple[str, str]]]:
    """Feed an answer in small pieces; returns its content and its calls."""
    content, calls = "", {}
    with OutputParser(bytes(rendered.parser), rendered.format) as parser:
        for i in range(0, len(text) + 1, 3):
            pieces = parser.feed(text[i : i + 3], final=i + 3 > len(text))
            content += pieces.content
            for piece in pieces.calls:
                name, arguments = calls.get(piece.index, ("", ""))
                calls[piece.index] = (name + piece.name, arguments + piece.arguments)
    return content, list(calls.values())


def test_forced_calls_parse_back(name: str, model: Model, template: ChatTemplate) -> None:
    tools = [Tool(**tool["function"]) for tool in TOOLS]
    known = {tool.name: tool.parameters for tool in tools}
    renderer, made = ChatRenderer(model.vocab, template), 0
    for seed in range(3 * N_CALLS):
        forced = (None, *known)[made % 3]
        prompt = ChatPrompt(
            messages=[Message(role="user", content="hi")],
            tools=tools,
            tool_name=forced,
            tool_choice="auto" if forced else "required",
            reasoning_budget=3,
        )
        rendered, _ = renderer.render(prompt, SamplingParams())
        text = random_answer(model, rendered, seed)
        if text is None:
            continue
        content, calls = parse(rendered, text)
        assert len(calls) == 1, (text, content, calls)
        called, arguments = calls[0]
        assert called == (forced or called)
        given, tagged = msgspec.json.decode(arguments), name in templates.TAGGED
        assert fits(given, known[called], tagged=tagged), (text, arguments)
        assert not content.strip(), (text, content)
        made += 1
        if made == N_CALLS:
            return
    pytest.fail(f"only {made} answers came to their end")
