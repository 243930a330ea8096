"""Questions to a model: its tokens' bytes, a conversation as it reads it, and gaps in a text."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import gguf
import msgspec
import pytest

from shimmy.engine import Engine
from shimmy.engine.types.options import EngineOptions
from shimmy.engine.types.prompt import ChatPrompt, InfillPrompt, Message
from shimmy.errors import ContextLengthError, InvalidRequestError
from tests.engine.ask import ask
from tests.support.tiny_gguf import token_id, write_model

PRE, SUF, MID = (token_id(f"<|fim_{name}|>") for name in ("prefix", "suffix", "middle"))


async def test_tokens_and_their_bytes_are_each_others_inverse(solo: Engine) -> None:
    text = "naïve 日本語 😀 the quick"
    pieces = await solo.detokenize(await solo.tokenize(text))
    assert b"".join(pieces) == text.encode()


async def test_control_tokens_have_bytes_too(solo: Engine) -> None:
    assert await solo.detokenize([token_id("<|im_end|>")]) == [b"<|im_end|>"]


@pytest.mark.parametrize("token", [-1, 10_000_000])
async def test_bytes_of_a_token_that_there_is_not_are_refused(solo: Engine, token: int) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        await solo.detokenize([token])
    assert caught.value.param == "tokens"


async def test_a_conversation_is_shown_as_the_model_reads_it(solo: Engine) -> None:
    prompt = ChatPrompt(messages=[Message(role="user", content="hi")])
    rendering = await solo.render(prompt)
    assert rendering.text == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert rendering.n_tokens == len(await solo.tokenize(rendering.text))
    answer = await ask(solo, prompt, max_tokens=0)
    assert answer.end.usage.prompt_tokens == rendering.n_tokens


async def test_a_gap_is_between_the_models_marks(solo: Engine) -> None:
    prefix, suffix = await solo.tokenize("def f(x"), await solo.tokenize("return x")
    answer = await ask(solo, InfillPrompt(prefix="def f(x", suffix="return x"), max_tokens=2)
    # three marks
    assert answer.end.usage.prompt_tokens == len(prefix) + len(suffix) + 3


async def test_a_mark_in_the_text_around_a_gap_is_text(solo: Engine) -> None:
    literal = await solo.tokenize("<|fim_middle|>", parse_special=False)
    answer = await ask(solo, InfillPrompt(prefix="<|fim_middle|>", suffix=""), max_tokens=0)
    assert answer.end.usage.prompt_tokens == len(literal) + 3


async def test_what_is_far_from_a_gap_is_left_out_instead_of_refused(solo: Engine) -> None:
    long = "the quick brown fox " * 2000
    answer = await ask(solo, InfillPrompt(prefix=long, suffix=long), max_tokens=2)
    assert 1000 < answer.end.usage.prompt_tokens < 2048


async def test_the_model_says_whether_it_fills_gaps(solo: Engine) -> None:
    assert (await solo.ready()).has_fim


@pytest.fixture
async def plain(options: EngineOptions, tmp_path: Path) -> AsyncIterator[Engine]:
    """An engine whose model has no FIM tokens: their names are others."""
    from tests.support import tiny_gguf

    tokens = [name.replace("fim_", "gap_") for name in tiny_gguf.vocabulary()[0]]
    fields = {"tokenizer.ggml.tokens": (tokens, gguf.GGUFValueType.ARRAY)}
    path = tmp_path / "plain.gguf"
    write_model(path, fields=fields)
    async with Engine.solo(msgspec.structs.replace(options, model_path=str(path))) as engine:
        yield engine


async def test_a_model_without_marks_refuses_a_gap(plain: Engine) -> None:
    assert not (await plain.ready()).has_fim
    with pytest.raises(InvalidRequestError, match="fill-in-the-middle"):
        await ask(plain, InfillPrompt(prefix="a", suffix="b"))


async def test_a_question_before_the_model_is_there_waits_for_it(options: EngineOptions) -> None:
    async with Engine.solo(options) as engine:
        assert await engine.tokenize("x")


async def test_an_input_that_is_too_long_for_a_generative_model_is_refused(solo: Engine) -> None:
    from shimmy.engine.types.prompt import TokenPrompt

    with pytest.raises(ContextLengthError):
        await solo.embed([TokenPrompt([5] * 100_000)])
