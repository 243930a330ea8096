"""A grammar that would keep everybody waiting is refused, and only its own request feels it."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

import pytest

from shimmy.engine import Engine
from shimmy.engine.types.prompt import Tool
from shimmy.errors import InvalidRequestError
from tests.engine.ask import ask, chat
from tests.support.tiny_gguf import SPECIALS, token_id

TOO_MUCH = {
    "optional parts": "root ::= " + " ".join(['"a"?'] * 1000),
    "optional classes": "root ::= " + " ".join(["[a-z]?"] * 100),
    "overlapping classes": "root ::= " + " ".join(f"[{chr(97 + i % 13)}-z]?" for i in range(150)),
    "behind a word": 'root ::= "x" y\ny ::= ' + " ".join(["[a-z]?"] * 100),
    "nested": "root ::= x x x x\nx ::= " + " ".join(["[a-z]?"] * 30),
    "starred": "root ::= (" + " ".join(["[a-z]*"] * 100) + ")*",
    "alternatives": "root ::= " + " | ".join(f'"w{i}"' for i in range(9000)),
    "repeated literal": 'root ::= "' + "a" * 5000 + '"{1900}',
    "repeated group": 'root ::= (("a" | "b"){1999}){1999}',
    "rules": "root ::= r0\n" + "\n".join(f'r{i} ::= "{i}"' for i in range(25_000)),
    "length": 'root ::= "' + "a" * 2_000_000 + '"',
}


@pytest.mark.parametrize("grammar", TOO_MUCH.values(), ids=TOO_MUCH.keys())
async def test_a_grammar_that_takes_too_long_is_refused_at_once(solo: Engine, grammar: str) -> None:
    began = time.monotonic()
    with pytest.raises(InvalidRequestError) as caught:
        await ask(solo, grammar=grammar)
    assert caught.value.param == "grammar"
    assert time.monotonic() - began < 10
    assert len(caught.value.message) < 1000


FINE = {
    "a few optional parts": 'root ::= "a"? "b"? "c"? "d"? "e"?',
    "letters": "root ::= (" + " | ".join(f'"{chr(97 + i)}"' for i in range(26)) + ")+",
    "many words": "root ::= " + " | ".join(f'"word{i}"' for i in range(3000)),
    "counted": 'root ::= [a-z]{0,500} "."',
    "nested": 'root ::= "{" (pair ("," pair)*)? "}"\npair ::= [a-z]+ ":" (root | [0-9]+)',
}


@pytest.mark.parametrize("grammar", FINE.values(), ids=FINE.keys())
async def test_a_grammar_for_everyday_use_is_taken(solo: Engine, grammar: str) -> None:
    answer = await ask(solo, grammar=grammar, max_tokens=4)
    assert answer.end.usage.completion_tokens <= 4


async def test_others_go_on_while_grammars_are_refused(solo: Engine) -> None:
    bad = [ask(solo, grammar=grammar) for grammar in TOO_MUCH.values()]
    good = [ask(solo, f"number {i}", max_tokens=4, ignore_eos=True) for i in range(4)]
    outcomes = await asyncio.gather(*bad, *good, return_exceptions=True)
    assert all(isinstance(outcome, InvalidRequestError) for outcome in outcomes[: len(bad)])
    assert not any(isinstance(outcome, BaseException) for outcome in outcomes[len(bad) :])


ENDS: dict[str, dict[str, Any]] = {
    "ignore_eos": {"ignore_eos": True},
    "min_tokens": {"min_tokens": 8},
    "biases": {"logit_bias": dict.fromkeys(map(token_id, SPECIALS), -math.inf)},
}


@pytest.mark.parametrize("fields", ENDS.values(), ids=ENDS.keys())
async def test_a_grammar_at_its_end_ends_the_answer_whatever_bans_the_end(
    solo: Engine, fields: dict[str, Any]
) -> None:
    answer = await ask(solo, grammar='root ::= "a" "b"', max_tokens=16, **fields)
    assert (answer.text, answer.end.reason) == ("ab", "stop")


async def test_a_grammar_whose_tokens_are_all_banned_is_the_requests_fault(solo: Engine) -> None:
    with pytest.raises(InvalidRequestError, match="allows no token") as caught:
        await ask(solo, grammar='root ::= "a"', logit_bias=dict.fromkeys(range(300), -math.inf))
    assert caught.value.param == "grammar"


async def test_a_left_recursive_schema_names_the_schemas_field(solo: Engine) -> None:
    schema = {"$defs": {"a": {"oneOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"}
    with pytest.raises(InvalidRequestError) as caught:
        await ask(solo, chat("hi", json_schema=schema))
    assert caught.value.param == "response_format"
    tools = [Tool(name="t", parameters={"type": "object", "properties": {"x": schema}} | schema)]
    with pytest.raises(InvalidRequestError) as caught:
        await ask(solo, chat("hi", tools=tools, tool_choice="required"))
    assert caught.value.param == "tools"


async def test_a_bias_for_no_token_names_its_field(solo: Engine) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        await ask(solo, logit_bias={10_000_000: 1.0})
    assert caught.value.param == "logit_bias"
