"""When an answer may end: stop tokens, and the least number of tokens."""

from __future__ import annotations

import pytest

from shimmy.engine import Engine
from shimmy.engine.types.prompt import TextPrompt
from shimmy.engine.types.request import GenerateRequest
from shimmy.engine.types.sampling import SamplingParams
from shimmy.errors import InvalidRequestError
from tests.engine.test_choices import collect
from tests.support.tiny_gguf import token_id

END = token_id("<|im_end|>")


def request(*, sampling: dict[str, object] | None = None, **fields: object) -> GenerateRequest:
    params = SamplingParams(temperature=0.0, **(sampling or {}))  # type: ignore[arg-type]
    return GenerateRequest(
        prompt=TextPrompt("the"), sampling=params, **({"max_tokens": 64} | fields)
    )  # type: ignore[arg-type]


async def test_a_stop_token_ends_the_answer_unseen_and_is_counted(solo: Engine) -> None:
    (bang,) = await solo.tokenize("!")
    asked = request(sampling={"grammar": 'root ::= "ab!cd"'}, stop_token_ids=[bang, 7])
    got = await collect(solo, asked)
    end = got.ends[0]
    assert got.texts == {0: "ab"}
    assert (end.reason, end.stop_token, end.stop) == ("stop", bang, None)
    assert end.usage.completion_tokens == 3


async def test_an_end_token_of_the_model_is_no_stop_token(solo: Engine) -> None:
    got = await collect(solo, request(sampling={"logit_bias": {END: 1000.0}}, stop_token_ids=[7]))
    assert got.ends[0].stop_token is None
    assert got.ends[0].reason == "stop"


async def test_a_stop_token_outside_of_the_vocabulary_is_refused(solo: Engine) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        await collect(solo, request(stop_token_ids=[10_000_000]))
    assert caught.value.param == "stop_token_ids"


async def test_no_end_token_is_chosen_before_min_tokens(solo: Engine) -> None:
    wants_to_end = {"logit_bias": {END: 1000.0}}
    got = await collect(solo, request(sampling=wants_to_end, min_tokens=5))
    end = got.ends[0]
    assert (end.reason, end.usage.completion_tokens) == ("stop", 6)


async def test_no_stop_token_is_chosen_before_min_tokens(solo: Engine) -> None:
    (x,) = await solo.tokenize("x")
    asked = request(sampling={"logit_bias": {x: 500.0}}, min_tokens=4, stop_token_ids=[x])
    got = await collect(solo, asked)
    assert got.ends[0].stop_token == x
    assert got.ends[0].usage.completion_tokens == 5
    assert "x" not in got.texts[0]


async def test_no_stop_string_ends_the_answer_before_min_tokens(solo: Engine) -> None:
    asked = request(sampling={"grammar": 'root ::= "a.b.c.d.e"'}, stop=["."], min_tokens=5)
    got = await collect(solo, asked)
    assert got.texts == {0: "a.b.c"}
    assert got.ends[0].stop == "."


async def test_a_grammar_at_its_end_ends_the_answer_in_spite_of_min_tokens(solo: Engine) -> None:
    got = await collect(solo, request(sampling={"grammar": 'root ::= "ab"'}, min_tokens=50))
    assert got.texts == {0: "ab"}
    assert got.ends[0].reason == "stop"
