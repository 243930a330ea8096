"""A grammar that several samplers have, one after the other or at once: each begins it anew."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shimmy.errors import InvalidRequestError, LlamaError
from shimmy.llama import Model
from shimmy.llama._ffi import ffi, lib
from shimmy.llama.chat import ChatTemplate
from shimmy.llama.grammar import Grammar
from shimmy.llama.row_sampler import RowSampler
from tests.support import templates

GBNF = b'root ::= [a-z]+ [A-Z0-9]{1,9} (","  "x" | "yz")\n'
SCHEMA = {"type": "object", "properties": {"a": {"enum": ["b", "c"]}}, "required": ["a"]}
LAZY = {"grammar_lazy": True, "grammar_triggers": [{"type": 2, "value": "[a-z]"}]}


def sampler(model: Model, known: Grammar | None, **fields: Any) -> RowSampler:
    encoded = json.dumps({"seed": 1, "temperature": 1.0, "top_k": 0} | fields).encode()
    return RowSampler(model, encoded, n_ctx=64, grammar=known)


def draws(model: Model, sampler: RowSampler, *, seed: int = 3, n: int = 40) -> list[int]:
    """Return what is drawn from random logits, up to the end or to where nothing is allowed."""
    rng, tokens = np.random.default_rng(seed), []
    while len(tokens) < n:
        logits = rng.normal(size=model.vocab.n_tokens).astype(np.float32)
        token = lib.shm_sampler_draw(sampler.ptr, ffi.from_buffer("float[]", logits))
        tokens.append(token)
        if token < 0 or model.vocab.is_eog(token):
            break
    return tokens


@pytest.mark.parametrize("lazy", [{}, LAZY])
@pytest.mark.parametrize("is_schema", [False, True])
def test_each_sampler_draws_as_with_a_grammar_of_its_own(
    model: Model, lazy: dict[str, Any], *, is_schema: bool
) -> None:
    source = json.dumps(SCHEMA).encode() if is_schema else GBNF
    text = {"json_schema": SCHEMA} if is_schema else {"grammar": GBNF.decode()}
    grammar = Grammar.of(source, is_schema=is_schema)
    for seed in range(3):
        with sampler(model, grammar, **lazy) as ours, sampler(model, None, **text, **lazy) as own:
            assert draws(model, ours, seed=seed) == draws(model, own, seed=seed)


def test_samplers_do_not_move_each_other(model: Model) -> None:
    grammar = Grammar.of(GBNF, is_schema=False)
    with sampler(model, grammar) as first, sampler(model, grammar) as second:
        begun = draws(model, first, n=2)
        whole = draws(model, second)
    assert whole[:2] == begun


def test_it_lives_as_long_as_its_samplers(model: Model) -> None:
    grammar = Grammar.of(GBNF, is_schema=False)
    with sampler(model, grammar, **LAZY) as late, sampler(model, grammar) as early:
        expected = draws(model, early)
        del grammar
        gc.collect()
        assert len(draws(model, late)) > 1
        late_again = sampler(model, Grammar.of(GBNF, is_schema=False))
    with late_again:
        assert draws(model, late_again) == expected


def test_another_model_gets_its_own(model: Model, tiny_of: Callable[..., Path]) -> None:
    grammar = Grammar.of(b"root ::= <[5]> <[6]>", is_schema=False)
    with sampler(model, grammar) as one:
        expected = draws(model, one)
    with Model.load(tiny_of(n_unused=7)) as other, sampler(other, grammar) as two:
        assert draws(other, two)[:2] == expected[:2] == [5, 6]


def test_many_at_once(model: Model) -> None:
    grammar = Grammar.of(GBNF, is_schema=False)
    with sampler(model, None, grammar=GBNF.decode()) as own:
        expected = draws(model, own)

    def drawn(_: int) -> list[int]:
        with sampler(model, grammar) as one:
            return draws(model, one)

    with ThreadPoolExecutor(8) as pool:
        assert all(tokens == expected for tokens in pool.map(drawn, range(40)))


@pytest.mark.parametrize(
    ("source", "is_schema"),
    [
        (b'root ::= "a', False),
        (b"root ::= root", False),
        (b"root ::= nothing", False),
        (b"%llguidance {}", False),
        (b"root ::= (" + b" ".join([b"[a-z]*"] * 100) + b")*", False),
        (b'{"type": "nothing"}', True),
        (b'{"$ref": "#/$defs/a"}', True),
    ],
)
def test_what_is_wrong_is_said_each_time_as_without_it(
    model: Model, source: bytes, *, is_schema: bool
) -> None:
    def said(known: Grammar | None, **fields: Any) -> tuple[type[Exception], str]:
        with pytest.raises((InvalidRequestError, LlamaError)) as caught:
            sampler(model, known, **fields)
        return type(caught.value), str(caught.value)

    grammar = Grammar.of(source, is_schema=is_schema)
    text = {"json_schema": json.loads(source)} if is_schema else {"grammar": source.decode()}
    assert said(grammar) == said(None, **text)
    assert said(grammar) == said(None, **text)


def test_a_large_one_is_used_again(model: Model) -> None:
    """It is compiled for each row, as it would take megabytes to keep."""
    text = "root ::= " + '"abcdefghijklmnopqrstuvwxyz0123456789"{1900} "x"'
    grammar = Grammar.of(text.encode(), is_schema=False)
    with sampler(model, grammar) as one, sampler(model, grammar) as two:
        assert draws(model, one, n=4) == draws(model, two, n=4)


def test_a_conversations_grammar_outlives_its_rendering(model: Model) -> None:
    body = {"messages": [{"role": "user", "content": "hi"}], "json_schema": SCHEMA}
    with ChatTemplate(model, templates.source("chatml")) as template:
        grammar = template.render(json.dumps(body).encode()).format.grammar
        again = template.render(json.dumps(body).encode()).format.grammar
    assert grammar is not None
    assert again is not None
    gc.collect()
    assert grammar.text == again.text
    with sampler(model, grammar) as one, sampler(model, again) as two:
        assert draws(model, one) == draws(model, two)
