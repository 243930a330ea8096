"""The output parser: the same message as llama.cpp's parse of the whole text, however the text comes, at a steady cost."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shimmy.llama import Model
from shimmy.llama._ffi import ffi, lib, take_text
from shimmy.llama.chat import ChatTemplate, OutputParser
from tests.support import templates

TOOLS = [templates.WEATHER, templates.SEARCH]
HELLO = [{"role": "user", "content": "hi"}]
CALL = '<tool_call>\n{"name": "search", "arguments": {"query": "a \\"b\\" \\u00e9\\n  ", "exact": true}}\n</tool_call>'
SECOND = '\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Köln", "unit": "celsius", "days": 3}}\n</tool_call>'
THOUGHT = "<think>\nhm, 1 < 2 </thin and </ think>\n so\n</think>\n\n"
CODER = '<tool_call>\n<function=search>\n<parameter=query>\nif a < b:\n  "x\\y"\n</parameter>\n<parameter=exact>\ntrue\n</parameter>\n</function>\n</tool_call>'
HARMONY = "<|channel|>analysis<|message|>so < it |> is<|end|><|start|>assistant<|channel|>final<|message|>yes < no"
HARMONY_CALL = '<|channel|>analysis<|message|>so<|end|><|start|>assistant to=functions.search<|channel|>commentary json<|message|>{"query": "x", "exact": false}'
OUTPUTS: list[tuple[str, dict[str, Any], str]] = [
    ("chatml", {}, "plain < text <tool_call> </think>"),
    ("chatml", {"general_tools": True, "tools": TOOLS}, f"I look it up < ok\n{CALL}"),
    ("qwen3", {}, f"{THOUGHT}It is <b>bold</b> <"),
    ("qwen3", {}, "no thought, <thi but text"),
    ("qwen3", {}, "<think>\n\n</think>\n\nempty thought"),
    ("qwen3", {"split_reasoning": False}, f"{THOUGHT}all in one"),
    ("qwen3", {"enable_thinking": False}, "text"),
    ("qwen3", {"tools": TOOLS, "parallel_tool_calls": True}, f"{THOUGHT}so <\n{CALL}{SECOND}"),
    ("qwen3", {"tools": TOOLS}, f"{CALL}"),
    ("qwen3", {"tools": TOOLS}, "only <tool text"),
    (
        "qwen3",
        {"json_schema": {"type": "object"}},
        '{"a": [1, 2.5e3, {"b": null}], "c": "\\u00fc \\\\"}',
    ),
    ("deepseek-r1", {}, "thinking\n\nmore</think>\n\nanswer"),
    ("deepseek-r1", {"split_reasoning": False}, "thinking</think>\n\nanswer"),
    ("hermes", {"tools": TOOLS}, f"text {CALL}"),
    (
        "llama3",
        {"tools": TOOLS},
        '{"name": "search", "parameters": {"query": "{}", "exact": true}}',
    ),
    (
        "mistral-nemo",
        {"tools": TOOLS},
        'ab[c[TOOL_CALLS][{"name": "search", "arguments": {"query": "x", "exact": true}, "id": "abcdefghi"}]',
    ),
    (
        "granite3",
        {"tools": TOOLS},
        'x<|tool_call|>[{"name": "search", "arguments": {"query": "x", "exact": true}}]',
    ),
    ("qwen3-coder", {"tools": TOOLS}, f"text\n{CODER}"),
    ("harmony", {}, HARMONY),
    ("harmony", {"tools": TOOLS}, HARMONY_CALL),
]


@pytest.fixture
def config(tiny_gguf: Path) -> Iterator[Callable[..., bytes]]:
    """Return a function that makes a parser's configuration for a template."""
    with Model.load(tiny_gguf) as model:

        def make(name: str, **fields: Any) -> bytes:
            with ChatTemplate(model, templates.source(name)) as template:
                body = json.dumps({"messages": HELLO} | fields).encode()
                # llama.cpp itself is asked, too: with all in the text
                made = lib.shm_chat_apply(template.ptr, body, len(body), ffi.NULL, ffi.NULL)
                return json.dumps(json.loads(take_text(made, "rendering"))["parser"]).encode()

        yield make


def whole(config: bytes, text: str, *, partial: bool = False) -> dict[str, Any]:
    """Parse with llama.cpp, all at once."""
    data = text.encode()
    reply = lib.shm_parser_reference(config, len(config), data, len(data), partial)
    return dict(json.loads(take_text(reply, "parsing")))


def assembled(config: bytes, pieces: list[str]) -> Iterator[dict[str, Any]]:
    """Feed pieces; yields the message after each, the last one being final."""
    message: dict[str, Any] = {"content": "", "reasoning": "", "calls": []}
    with OutputParser(config) as parser:
        for i, text in enumerate([*pieces, ""]):
            new = parser.feed(text, final=i == len(pieces))
            message["content"] += new.content
            message["reasoning"] += new.reasoning
            for piece in new.calls:
                if piece.index == len(message["calls"]):
                    message["calls"].append({"name": piece.name, "arguments": ""})
                message["calls"][piece.index]["arguments"] += piece.arguments
            yield json.loads(json.dumps(message))


def cut(text: str, rng: random.Random) -> list[str]:
    """Cut a text at random places, into pieces as a model's tokens are."""
    pieces = []
    while text:
        n = rng.choice((1, 1, 2, 3, 5, 9))
        pieces.append(text[:n])
        text = text[n:]
    return pieces


def as_text(message: dict[str, Any]) -> list[str]:
    calls = [part for call in message["calls"] for part in (call["name"], call["arguments"])]
    return [message["reasoning"], message["content"], *calls]


@pytest.mark.parametrize(("name", "fields", "text"), OUTPUTS)
def test_pieces_give_the_message_of_the_whole(
    config: Callable[..., bytes], name: str, fields: dict[str, Any], text: str
) -> None:
    parser = config(name, **fields)
    if parser == b"null":
        return
    expected = whole(parser, text)
    for seed in range(20):
        pieces, said, shown = cut(text, random.Random(seed)), "", []
        for i, message in enumerate(assembled(parser, pieces)):
            for before, now in zip(shown, as_text(message), strict=False):
                assert now.startswith(before), "what was said is never taken back"
            shown = as_text(message)
            if i < len(pieces):
                said += pieces[i]
                try:
                    least = whole(parser, said, partial=True)
                except Exception:
                    continue
                for theirs, ours in zip(as_text(least), shown, strict=False):
                    assert len(ours) >= len(theirs), "nothing comes later than from llama.cpp"
        # llama.cpp drops the beginning of a marker at the end of a text: here it is text
        held = message["content"].removeprefix(expected["content"])
        assert text.endswith(held)
        assert len(held) < 12
        assert {**message, "content": expected["content"]} == expected


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('<tool_call>\n{"name": "nope", "arguments": {}}\n</tool_call>', None),
        ("hm <tool_call>\nnot JSON at all</tool_call> and on", None),
        ("<think>\nwell\n</think>\n\nso: <tool_c", "so: <tool_c"),
        ("<think>\nwell\n</think>\n\nso: <tool_call>?", "so: <tool_call>?"),
    ],
)
def test_a_call_that_does_not_parse_becomes_text(
    config: Callable[..., bytes], text: str, shown: str | None
) -> None:
    parser = config("qwen3", tools=TOOLS)
    for seed in range(10):
        *_, message = assembled(parser, cut(text, random.Random(seed)))
        assert message["content"] == (shown or text)
        assert message["calls"] == []


def test_a_call_that_was_cut_keeps_what_was_said(config: Callable[..., bytes]) -> None:
    *_, message = assembled(config("qwen3", tools=TOOLS), list(CALL[:70]))
    assert message["content"] == ""
    assert message["calls"][0]["name"] == "search"
    assert message["calls"][0]["arguments"].startswith('{"query": "a')


@pytest.mark.parametrize(
    ("name", "fields", "text"), [each for each in OUTPUTS if each[1].get("split_reasoning", True)]
)
def test_a_text_that_ends_within_a_mark_does_not_show_it(
    config: Callable[..., bytes], name: str, fields: dict[str, Any], text: str
) -> None:
    parser = config(name, **fields)
    if parser == b"null":
        return
    marks = json.loads(parser)["marks"]
    for n in range(len(text)):
        *_, message = assembled(parser, [text[:n]])
        assert not any(mark in message["content"] for mark in marks), text[:n]


@pytest.mark.parametrize("n", range(len('<tool_call>\n{"name": "search')))
@pytest.mark.parametrize("name", ["chatml", "qwen3", "hermes", "qwen3-coder"])
def test_of_a_forced_call_that_was_cut_nothing_is_text(
    config: Callable[..., bytes], name: str, n: int
) -> None:
    fields = {"tools": TOOLS, "tool_choice": "required", "general_tools": name == "chatml"}
    text = CODER if name == "qwen3-coder" else CALL
    *_, message = assembled(config(name, **fields), list(text[:n]))
    assert (message["content"], message["reasoning"]) == ("", "")


@pytest.mark.parametrize("tail", ["<", "</th", "</think>", "</think>\n\n"])
@pytest.mark.parametrize("words", ["so", ""])
def test_the_end_of_a_reasoning_is_never_content(
    config: Callable[..., bytes], words: str, tail: str
) -> None:
    for name, begin in (("deepseek-r1", ""), ("qwen3", "<think>\n")):
        *_, message = assembled(config(name), list(begin + words + tail))
        assert (message["content"].strip(), message["reasoning"].strip()) == ("", words)


def test_a_long_text_after_a_broken_call_stays_cheap(config: Callable[..., bytes]) -> None:
    text = "<tool_call>?" + " and so on" * 2000
    *_, message = assembled(
        config("qwen3", tools=TOOLS), [text[i : i + 4] for i in range(0, len(text), 4)]
    )
    assert message["content"] == text


def seconds_per_token(config: bytes, text: str) -> float:
    best = float("inf")
    for _ in range(5):
        with OutputParser(config) as parser:
            started = time.process_time()
            for i in range(0, len(text), 4):
                parser.feed(text[i : i + 4], final=False)
            best = min(best, (time.process_time() - started) / (len(text) / 4))
    return best


@pytest.mark.parametrize(
    ("begin", "unit"),
    [
        ("", "some text, x < y, "),
        ("<think>\n", "a long thought </t, "),
        (
            '<tool_call>\n{"name": "search", "arguments": {"exact": true, "query": "',
            "a long\\n line, ",
        ),
        ('<tool_call>\n{"name": "search", "arguments": {"exact": true, "sites": [', '"a", "b",'),
    ],
)
def test_the_cost_of_a_token_does_not_grow(
    config: Callable[..., bytes], begin: str, unit: str
) -> None:
    parser = config("qwen3", tools=TOOLS)
    long = begin + unit * (8000 * 4 // len(unit))
    short = seconds_per_token(parser, long[:4000])
    assert seconds_per_token(parser, long) < 2.5 * short
