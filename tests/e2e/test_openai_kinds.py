"""Models that embed, rank and fill gaps, behind one server; their weights are random."""

from __future__ import annotations

import math
from collections.abc import Iterator

import openai
import pytest

from tests.support.served import Served, serve
from tests.support.tiny_gguf import write_model


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("models")
    path = write_model(folder / "code.gguf")
    write_model(folder / "vectors.gguf", arch="bert")
    write_model(folder / "ranks.gguf", arch="bert", n_cls=1)
    home = tmp_path_factory.mktemp("home")
    with serve(home, "--model-path", str(path), "--model-dirs", str(folder)) as server:
        yield server


def test_infill_fills_a_gap(kinds: Served) -> None:
    body = {"input_prefix": "ab", "input_suffix": "cd", "n_predict": 4, "temperature": 0}
    status, answer = kinds.post("/infill", body)
    assert status == 200
    assert 0 < answer["tokens_predicted"] <= 4
    assert answer["stop_type"] in {"limit", "eos"}
    # prefix, suffix and middle marks, and the bytes between them
    assert answer["tokens_evaluated"] >= 5


def test_a_suffix_is_a_gap_too(kinds: Served) -> None:
    body = {"temperature": 0, "seed": 1}
    _, infill = kinds.post(
        "/infill", {**body, "input_prefix": "ab", "input_suffix": "cd", "n_predict": 4}
    )
    status, answer = kinds.post(
        "/v1/completions", {**body, "prompt": "ab", "suffix": "cd", "max_tokens": 4}
    )
    assert status == 200
    assert answer["choices"][0]["text"] == infill["content"]


def test_an_embedding_model_embeds_and_does_not_chat(kinds: Served) -> None:
    with openai.OpenAI(base_url=kinds.url + "/v1", api_key="none", max_retries=0) as client:
        answer = client.embeddings.create(model="vectors", input=["ab", "cd", "ab"])
        a, b, again = (each.embedding for each in answer.data)
        assert math.hypot(*a) == pytest.approx(1, abs=1e-3)
        assert a == pytest.approx(again, abs=1e-5)
        assert a != pytest.approx(b, abs=1e-5)
        short = client.embeddings.create(model="vectors", input="ab", dimensions=4).data[0]
        length = math.hypot(*a[:4])
        assert short.embedding == pytest.approx([x / length for x in a[:4]], abs=1e-5)
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(
                model="vectors", messages=[{"role": "user", "content": "Hi"}]
            )


def test_a_reranker_sorts_documents(kinds: Served) -> None:
    body = {"model": "ranks", "query": "ab", "documents": ["cd", "ab ab", "x"]}
    status, answer = kinds.post("/v1/rerank", body)
    assert status == 200
    scores = [each["relevance_score"] for each in answer["results"]]
    assert scores == sorted(scores, reverse=True)
    assert {each["index"] for each in answer["results"]} == {0, 1, 2}
    assert answer["usage"]["prompt_tokens"] > 0
    status, texts = kinds.post("/rerank", {"model": "ranks", "query": "ab", "texts": ["cd", "x"]})
    assert status == 200
    assert all(0 <= each["score"] <= 1 for each in texts)


def test_a_document_that_is_too_long_is_a_400_that_names_the_field(kinds: Served) -> None:
    body = {"model": "ranks", "query": "ab", "documents": ["word " * 5000]}
    status, answer = kinds.post("/v1/rerank", body)
    assert (status, answer["error"]["param"]) == (400, "documents")
    assert answer["error"]["code"] == "context_length_exceeded"
