"""Vectors and scores: of encoders, of decoders made for it, and of models that generate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import gguf
import msgspec
import numpy as np
import pytest

from shimmy.engine import Engine
from shimmy.engine.types.options import EngineOptions
from shimmy.engine.types.prompt import TextPrompt, TokenPrompt
from shimmy.errors import ContextLengthError, InvalidRequestError
from tests.engine.ask import ask
from tests.support.tiny_gguf import N_EMBD, write_model

TEXTS = ["the quick brown fox", "jumps", "over the lazy dog and then the dog sleeps", "naïve 日本"]
UINT32 = gguf.GGUFValueType.UINT32

KINDS: dict[str, dict[str, Any]] = {
    "encoder": {"arch": "bert"},
    "encoder-cls": {"arch": "bert", "fields": {"{arch}.pooling_type": (2, UINT32)}},
    "decoder": {"fields": {"{arch}.pooling_type": (3, UINT32)}},
    "decoder-mean": {"fields": {"{arch}.pooling_type": (1, UINT32)}},
    "generative": {},
}

Start = Callable[..., AbstractAsyncContextManager[Engine]]


@pytest.fixture(scope="session")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    directory, made = tmp_path_factory.mktemp("embedding"), {}

    def write(**options: Any) -> Path:
        key = repr(sorted(options.items()))
        if key not in made:
            made[key] = write_model(directory / f"{len(made)}.gguf", **options)
        return made[key]

    return write


@pytest.fixture
def start(options: EngineOptions, model_of: Callable[..., Path]) -> Start:
    @asynccontextmanager
    async def run(kind: str, **changes: Any) -> AsyncIterator[Engine]:
        path = model_of(**(KINDS | RERANKERS)[kind])
        changed = msgspec.structs.replace(options, model_path=str(path), **changes)
        async with Engine.solo(changed) as engine:
            yield engine

    return run


def vectors(raw: list[bytes]) -> np.ndarray:
    return np.stack([np.frombuffer(one, "<f4") for one in raw])


def texts(*words: str) -> list[TextPrompt | TokenPrompt]:
    return [TextPrompt(word) for word in words]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_vector_has_length_1_and_as_many_numbers_as_the_model_says(
    start: Start, kind: str
) -> None:
    async with start(kind) as engine:
        info = await engine.ready()
        answer = await engine.embed(texts(*TEXTS))
        counts = [len(await engine.tokenize(text)) for text in TEXTS]
    found = vectors(answer.vectors)
    assert found.shape == (len(TEXTS), N_EMBD) == (len(TEXTS), info.n_embd)
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(len(TEXTS)), abs=1e-5)
    assert answer.n_tokens == counts


@pytest.mark.parametrize("kind", KINDS)
async def test_a_vector_is_the_same_alone_and_among_others(start: Start, kind: str) -> None:
    many = [f"{text} {i}" for i in range(40) for text in TEXTS]
    async with start(kind) as engine:
        together = vectors((await engine.embed(texts(*many))).vectors)
        alone = [vectors((await engine.embed(texts(many[i]))).vectors)[0] for i in (0, 63, 159)]
    for i, vector in zip((0, 63, 159), alone, strict=True):
        assert float(vector @ together[i]) == pytest.approx(1.0, abs=1e-3)
    assert len({vector.tobytes() for vector in together}) == len(many)


@pytest.mark.parametrize("kind", KINDS)
async def test_calls_at_the_same_time_each_get_their_own(start: Start, kind: str) -> None:
    async with start(kind) as engine:
        answers = await asyncio.gather(*(engine.embed(texts(text)) for text in TEXTS))
        together = vectors((await engine.embed(texts(*TEXTS))).vectors)
    for answer, expected in zip(answers, together, strict=True):
        assert float(vectors(answer.vectors)[0] @ expected) == pytest.approx(1.0, abs=1e-3)


async def test_tokens_are_embedded_as_their_text_is(start: Start) -> None:
    async with start("decoder") as engine:
        tokens = await engine.tokenize(TEXTS[0])
        answer = await engine.embed([TextPrompt(TEXTS[0]), TokenPrompt(tokens)])
    left, right = vectors(answer.vectors)
    assert float(left @ right) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("kind", ["decoder", "generative"])
async def test_an_input_longer_than_a_batch_is_taken_in_bit_by_bit(start: Start, kind: str) -> None:
    long = TokenPrompt([5 + i % 200 for i in range(700)])
    other = TokenPrompt([5 + i % 199 for i in range(700)])
    async with start(kind) as engine:
        mixed = await engine.embed([TextPrompt("a"), long, TextPrompt("b"), other, long])
        alone = await engine.embed([long])
    found = vectors(mixed.vectors)
    assert float(found[1] @ vectors(alone.vectors)[0]) == pytest.approx(1.0, abs=1e-3)
    assert float(found[1] @ found[4]) == pytest.approx(1.0, abs=1e-3)
    assert float(found[1] @ found[3]) < 0.999


@pytest.mark.parametrize("kind", KINDS)
async def test_an_input_longer_than_the_model_takes_is_the_callers_fault(
    start: Start, kind: str
) -> None:
    async with start(kind) as engine:
        limit = (await engine.ready()).n_ctx_row
        limit = min(limit, 2048)
        with pytest.raises(ContextLengthError) as caught:
            await engine.embed([TextPrompt("a"), TokenPrompt([5] * (limit + 1))])
        assert caught.value.n_prompt_tokens == limit + 1
        full = await engine.embed([TokenPrompt([5] * limit)])
    assert full.n_tokens == [limit]


async def test_an_empty_text_has_no_vector(start: Start) -> None:
    async with start("decoder") as engine:
        with pytest.raises(InvalidRequestError, match="empty"):
            await engine.embed(texts(""))


async def test_no_inputs_give_no_vectors(start: Start) -> None:
    async with start("encoder") as engine:
        assert (await engine.embed([])).vectors == []


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
async def test_an_embedding_model_says_so_and_does_not_generate(start: Start, kind: str) -> None:
    async with start(kind) as engine:
        assert (await engine.ready()).kind == "embedding"
        with pytest.raises(InvalidRequestError, match="embedding model") as caught:
            await ask(engine, "hello")
        assert caught.value.param == "model"
        assert await engine.tokenize("hello")


async def test_a_generative_model_embeds_while_it_generates(start: Start) -> None:
    async with start("generative") as engine:
        generating = asyncio.Event()
        endless = asyncio.create_task(
            ask(engine, max_tokens=1500, ignore_eos=True, generating=generating)
        )
        await generating.wait()
        answer = await engine.embed(texts(*TEXTS * 10))
        assert not endless.done()
        quiet = await ask(engine, max_tokens=4, ignore_eos=True)
        endless.cancel()
        await asyncio.gather(endless, return_exceptions=True)
    assert len(answer.vectors) == 40
    assert quiet.end.usage.completion_tokens == 4


async def test_a_call_that_nobody_waits_for_any_more_is_forgotten(start: Start) -> None:
    async with start("encoder") as engine:
        call = asyncio.create_task(engine.embed(texts(*TEXTS * 500)))
        await asyncio.sleep(0.05)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert len((await asyncio.wait_for(engine.embed(texts("a")), 10)).vectors) == 1


RERANKERS: dict[str, dict[str, Any]] = {
    "reranker": {"arch": "bert", "n_cls": 1},
    "templated": {
        "arch": "bert",
        "n_cls": 1,
        "fields": {
            "tokenizer.chat_template.rerank": (
                "q: {query}\nd: {document}\n",
                gguf.GGUFValueType.STRING,
            )
        },
    },
}


@pytest.mark.parametrize("kind", RERANKERS)
async def test_a_reranker_scores_each_document_by_itself(start: Start, kind: str) -> None:
    documents = [f"{text} {i}" for i in range(20) for text in TEXTS]
    async with start(kind) as engine:
        assert (await engine.ready()).kind == "reranker"
        together = await engine.rerank("fox", documents)
        alone = [(await engine.rerank("fox", [documents[i]])).scores[0] for i in (0, 41, 79)]
        other = await engine.rerank("dog", documents[:3])
    assert len(together.scores) == len(together.n_tokens) == 80
    assert alone == pytest.approx([together.scores[i] for i in (0, 41, 79)], abs=1e-3)
    assert len(set(together.scores)) > 40
    assert other.scores != together.scores[:3]


async def test_a_rerankers_template_joins_query_and_document(start: Start) -> None:
    async with start("templated") as engine:
        answer = await engine.rerank("{document}", ["{query}"])
        expected = await engine.tokenize("q: {document}\nd: {query}\n", add_special=False)
    assert answer.n_tokens == [len(expected)]


async def test_a_pair_that_is_too_long_is_the_callers_fault(start: Start) -> None:
    async with start("reranker") as engine:
        with pytest.raises(ContextLengthError) as caught:
            await engine.rerank("fox", ["ok", "the fox " * 3000])
    assert caught.value.param == "documents"


async def test_a_reranker_neither_embeds_nor_generates(start: Start) -> None:
    async with start("reranker") as engine:
        with pytest.raises(InvalidRequestError, match="reranker"):
            await engine.embed(texts("a"))
        with pytest.raises(InvalidRequestError, match="reranker"):
            await ask(engine, "a")


@pytest.mark.parametrize("kind", ["encoder", "generative"])
async def test_only_a_reranker_ranks(start: Start, kind: str) -> None:
    async with start(kind) as engine:
        with pytest.raises(InvalidRequestError, match="no reranker") as caught:
            await engine.rerank("a", ["b"])
    assert caught.value.param == "model"
