"""The grammars of requests: kept for the next, and what is wrong with them is said each time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shimmy.engine.types.prompt import ChatPrompt, Message, TextPrompt
from shimmy.engine.types.request import GenerateRequest
from shimmy.engine.types.sampling import MAX_SEED, SamplingParams
from shimmy.errors import InvalidRequestError
from shimmy.llama import Model
from shimmy.llama.chat import ChatTemplate
from shimmy.llama.grammar import Grammar
from shimmy.worker.chat import ChatRenderer
from shimmy.worker.samplers import Samplers

TEXT = TextPrompt("hi")
CHAT = ChatPrompt(messages=[Message(role="user", content="hi")])
ENDLESS = {
    "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {"type": "null"}]}},
    "$ref": "#/$defs/a",
}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


@pytest.fixture
def model(tiny_gguf: Path) -> Iterator[Model]:
    with Model.load(tiny_gguf) as model:
        yield model


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return the sources of the grammars that are made."""
    sources: list[bytes] = []
    of = Grammar.of

    def noted(source: bytes, *, is_schema: bool) -> Grammar:
        sources.append(source)
        return of(source, is_schema=is_schema)

    monkeypatch.setattr(Grammar, "of", noted)
    return sources


def request(prompt: TextPrompt | ChatPrompt = TEXT, **sampling: Any) -> GenerateRequest:
    return GenerateRequest(prompt=prompt, sampling=SamplingParams(**sampling))


@pytest.mark.parametrize(
    "fields", [{"grammar": 'root ::= "a"'}, {"json_schema": SCHEMA}, {"json_schema": {}}]
)
def test_a_raw_prompts_grammar_is_made_once(
    model: Model, made: list[bytes], fields: dict[str, Any]
) -> None:
    samplers = Samplers(model, n_ctx=64)
    for _ in range(3):
        samplers.make(request(**fields), None, 0).close()
    assert len(made) == 1


def test_a_grammar_and_a_schema_of_one_text_are_two(model: Model, made: list[bytes]) -> None:
    samplers = Samplers(model, n_ctx=64)
    samplers.make(request(json_schema=SCHEMA), None, 0).close()
    with pytest.raises(InvalidRequestError, match="does not parse"):
        samplers.make(request(grammar=made[0].decode()), None, 0)


def test_a_conversation_may_have_a_grammar_of_its_own(model: Model, made: list[bytes]) -> None:
    samplers = Samplers(model, n_ctx=64)
    asked = request(CHAT, grammar='root ::= "a"')
    with ChatTemplate(model) as template:
        rendered, _ = ChatRenderer(model.vocab, template).render(CHAT, asked.sampling)
    for choice in range(2):
        samplers.make(asked, rendered, choice).close()
    assert made == [b'root ::= "a"']


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"grammar": "root ::= ("}, "grammar"),
        ({"grammar": "root ::= root"}, "grammar"),
        ({"json_schema": ENDLESS}, "json_schema"),
    ],
)
def test_what_cannot_be_is_refused_each_time(
    model: Model, made: list[bytes], fields: dict[str, Any], param: str
) -> None:
    samplers, said = Samplers(model, n_ctx=64), []
    for _ in range(2):
        with pytest.raises(InvalidRequestError) as caught:
            samplers.make(request(**fields), None, 0)
        said.append((caught.value.param, caught.value.message))
    assert said[0] == said[1]
    assert said[0][0] == param
    assert len(made) == 2, "what is of no use is not kept"


def seeds(model: Model, n: int, seed: int | None) -> list[int]:
    samplers, found = Samplers(model, n_ctx=64), []
    for choice in range(n):
        with samplers.make(request(seed=seed), None, choice) as sampler:
            found.append(sampler.seed)
    return found


@pytest.mark.parametrize(
    ("seed", "expected"),
    [(7, [7, 8, 9]), (MAX_SEED - 1, [MAX_SEED - 1, 0, 1])],
)
def test_choices_have_seeds_behind_each_other(model: Model, seed: int, expected: list[int]) -> None:
    assert seeds(model, 3, seed) == expected


@pytest.mark.parametrize("seed", [None, MAX_SEED])
def test_a_seed_that_nobody_named_is_any(model: Model, seed: int | None) -> None:
    found = seeds(model, 4, seed) + seeds(model, 4, seed)
    assert len(set(found)) == 8
    assert MAX_SEED not in found
