"""Chat templates and output parsers through the shim: what they give, and what bad input becomes."""

from __future__ import annotations

import json

import pytest

from shimmy.errors import InvalidRequestError, LlamaError
from shimmy.llama import Model
from shimmy.llama._ffi import ffi, lib
from shimmy.llama.chat import ChatTemplate, OutputParser
from shimmy.llama.tools import Tools
from tests.support import templates

HELLO = {"messages": [{"role": "user", "content": "hi"}]}


def render(template: ChatTemplate, **fields):
    return template.render(json.dumps(HELLO | fields).encode())


def test_the_models_own_template_is_used(model: Model) -> None:
    with ChatTemplate(model) as template:
        info = template.info()
        assert info.explicit
        assert "<|im_start|>" in info.source
        expected = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
        assert render(template).prompt == expected


def test_another_template_can_be_given(model: Model) -> None:
    source = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
    with ChatTemplate(model, source) as template:
        assert render(template).prompt.startswith("[user] hi\n")


def test_a_template_that_does_not_parse_is_an_error(model: Model) -> None:
    with pytest.raises(LlamaError, match=r"(?s)the chat template: .*Expected }} .*m.role"):
        ChatTemplate(model, "{% for m in messages %}{{ m.role }")


def test_a_template_that_refuses_the_messages_says_why(model: Model) -> None:
    source = "{{ raise_exception('roles must alternate') }}"
    with (
        ChatTemplate(model, source) as template,
        pytest.raises(InvalidRequestError, match="roles must alternate"),
    ):
        render(template)


def test_a_missing_model_is_an_error_and_not_an_abort() -> None:
    assert lib.shm_chat_new(ffi.NULL, ffi.NULL) == ffi.NULL
    assert lib.shm_last_fault() == lib.SHM_FAULT_INVALID_ARGUMENT


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"{}", b'{"messages": 3}', b'{"messages": [3]}', b"\xff"]
)
def test_a_conversation_that_is_none_is_an_error(model: Model, text: bytes) -> None:
    with ChatTemplate(model) as template, pytest.raises(LlamaError):
        template.render(text)


def test_a_plain_conversation_needs_no_parser(model: Model) -> None:
    with ChatTemplate(model) as template:
        assert bytes(render(template).parser) == b"null"


def test_a_schema_becomes_a_grammar(model: Model) -> None:
    with ChatTemplate(model) as template:
        rendered = render(template, json_schema={"type": "object", "required": ["a"]})
    assert "root" in rendered.format.grammar.text


@pytest.mark.parametrize("text", [b"", b"{}", b'{"format": "x"}', b'{"format": 1, "arena": "no"}'])
def test_a_parser_configuration_that_is_none_is_an_error(text: bytes) -> None:
    with pytest.raises(LlamaError):
        OutputParser(text)


def test_text_that_does_not_parse_is_returned_as_content(model: Model) -> None:
    tool = {
        "type": "function",
        "function": {"name": "f", "description": "", "parameters": {"type": "object"}},
    }
    with ChatTemplate(model) as template:
        rendered = render(template, tools=[tool])
    text = '<tool_call>\n{"name": "f", "arg'
    with OutputParser(bytes(rendered.parser), rendered.format) as parser:
        pieces = [parser.feed(character, final=False) for character in text]
        pieces.append(parser.feed("", final=True))
    shown = "".join(piece.content for piece in pieces)
    called = [call for piece in pieces for call in piece.calls]
    assert called or shown


@pytest.mark.parametrize("name", ["qwen3", "qwen3-coder", "chatml"])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"tool_choice": "none"},
        {"tool_choice": "required", "parallel_tool_calls": True},
        {"tool_name": "search"},
        {"general_tools": True},
    ],
)
def test_tools_that_were_read_before_are_as_those_of_the_conversation(
    model: Model, name: str, fields: dict[str, object]
) -> None:
    tools = [templates.WEATHER, templates.SEARCH]
    known = Tools(json.dumps(tools).encode())
    with ChatTemplate(model, templates.source(name)) as template:
        said = render(template, tools=tools, **fields)
        for _ in range(2):
            again = template.render(json.dumps(HELLO | fields).encode(), known)
            assert again.prompt == said.prompt
            assert (again.sampler, bytes(again.parser)) == (said.sampler, bytes(said.parser))
            grammars = [one.format.grammar for one in (said, again)]
            assert [one and one.text for one in grammars[:1]] == [
                one and one.text for one in grammars[1:]
            ]


def test_other_tools_of_one_name_have_a_grammar_of_their_own(model: Model) -> None:
    texts = set()
    with ChatTemplate(model, templates.source("qwen3")) as template:
        for kind in ("string", "integer"):
            function = {
                "name": "f",
                "parameters": {"type": "object", "properties": {"a": {"type": kind}}},
            }
            known = Tools(json.dumps([{"type": "function", "function": function}]).encode())
            grammar = template.render(json.dumps(HELLO).encode(), known).format.grammar
            assert grammar is not None
            texts.add(grammar.text)
    assert len(texts) == 2


@pytest.mark.parametrize("text", [b"", b"{", b"3", b"[3]", b'[{"type": "function"}]'])
def test_tools_that_are_none_are_an_error(text: bytes) -> None:
    with pytest.raises(LlamaError):
        Tools(text)
