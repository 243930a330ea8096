"""/v1/embeddings, /v1/rerank, /tokenize, /detokenize, /apply-template, /infill."""

from __future__ import annotations

import base64
import struct

import pytest

from shimmy.engine.types.event import Accepted, Delta
from shimmy.engine.types.prompt import InfillPrompt, TextPrompt, TokenPrompt
from tests.server.fakes import finished

EMBED = "/v1/embeddings"
RERANK = "/v1/rerank"


async def embed(server, **fields):
    response = await server.post(EMBED, fields)
    assert response.status == 200, await response.text()
    return await response.json()


async def problem(server, path, body):
    """Return the status, and the field that is named."""
    response = await server.post(path, body)
    error = (await response.json())["error"]
    return response.status, error["param"]


async def test_an_embedding_has_openais_shape(server):
    assert await embed(server, input="one two", model="tiny") == {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": pytest.approx([0.6, 0.8, 0, 0])}],
        "model": "tiny",
        "usage": {"prompt_tokens": 2, "total_tokens": 2},
    }


async def test_b1_base64_is_little_endian_float32s(server):
    body = await embed(server, input="one", encoding_format="base64")
    raw = base64.b64decode(body["data"][0]["embedding"])
    assert struct.unpack("<4f", raw) == pytest.approx((0.6, 0.8, 0, 0))


@pytest.mark.parametrize("form", ["float", "base64"])
async def test_fewer_dimensions_have_length_1_again(server, form):
    body = await embed(server, input="one", dimensions=1, encoding_format=form)
    (vector,) = [each["embedding"] for each in body["data"]]
    if form == "base64":
        vector = list(struct.unpack("<1f", base64.b64decode(vector)))
    assert vector == [1.0]


@pytest.mark.parametrize(
    ("given", "engine"),
    [
        ("a", [TextPrompt("a", parse_special=False)]),
        (["a", "b"], [TextPrompt("a", parse_special=False), TextPrompt("b", parse_special=False)]),
        ([1, 2], [TokenPrompt([1, 2])]),
        ([[1, 2], [3]], [TokenPrompt([1, 2]), TokenPrompt([3])]),
    ],
)
async def test_inputs(server, given, engine):
    body = await embed(server, input=given)
    assert server.engine.embedded == engine
    assert [each["index"] for each in body["data"]] == list(range(len(engine)))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": [[]]}, "input[0]"),
        ({"input": [1, "a"]}, "input[1]"),
        ({"input": [-1]}, "input[0]"),
        ({"input": 5}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "dimensions": 5}, "dimensions"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "word " * 101}, "input"),
    ],
)
async def test_what_cannot_be_embedded_is_a_400_that_names_the_field(server, fields, param):
    assert await problem(server, EMBED, fields) == (400, param)


DOCUMENTS = ["a cat", "the big dog", "the cat"]


async def test_rerank_has_jinas_shape(server):
    response = await server.post(
        RERANK, {"query": "the cat", "documents": [*DOCUMENTS[:2], {"text": DOCUMENTS[2]}]}
    )
    assert await response.json() == {
        "model": "tiny",
        "object": "list",
        "usage": {"prompt_tokens": 13, "total_tokens": 13},
        "results": [
            {"index": 2, "relevance_score": 1.0},
            {"index": 0, "relevance_score": 0.0},
            {"index": 1, "relevance_score": 0.0},
        ],
    }


async def test_rerank_shows_the_best_documents(server):
    body = {"query": "the cat", "documents": DOCUMENTS, "top_n": 1, "return_documents": True}
    answer = await (await server.post(RERANK, body)).json()
    assert answer["results"] == [
        {"index": 2, "relevance_score": 1.0, "document": {"text": "the cat"}}
    ]


@pytest.mark.parametrize("path", ["/rerank", "/reranking", "/v1/reranking"])
async def test_rerank_has_llama_servers_paths(server, path):
    response = await server.post(path, {"query": "the cat", "documents": DOCUMENTS, "top_n": 99})
    assert len((await response.json())["results"]) == 3


async def test_rerank_speaks_to_clients_of_text_embeddings_inference(server):
    body = {"query": "the cat", "texts": DOCUMENTS, "return_text": True}
    answer = await (await server.post("/rerank", body)).json()
    assert answer[0] == {"index": 2, "score": pytest.approx(0.7310586), "text": "the cat"}
    raw = await (await server.post("/rerank", {**body, "raw_scores": True})).json()
    assert raw[0]["score"] == 1.0


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"documents": ["a"]}, "query"),
        ({"query": "", "documents": ["a"]}, "query"),
        ({"query": "a"}, "documents"),
        ({"query": "a", "documents": []}, "documents"),
        ({"query": "a", "texts": []}, "texts"),
        ({"query": "a", "texts": ["a"], "documents": ["a"]}, "texts"),
        ({"query": "a", "documents": [5]}, "documents[0]"),
        ({"query": "a", "documents": ["a"] * 2049}, "documents"),
        ({"query": "a", "documents": ["a"], "top_n": 0}, "top_n"),
        ({"query": "unfit", "documents": ["a"]}, "model"),
    ],
)
async def test_what_cannot_be_ranked_is_a_400_that_names_the_field(server, fields, param):
    assert await problem(server, RERANK, fields) == (400, param)


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({"content": "ab"}, [97, 98]),
        ({"content": "ab", "add_special": True}, [1, 97, 98]),
        ({"content": "a<s>"}, [97, 2]),
        ({"content": "<s>", "parse_special": False}, [60, 115, 62]),
        ({"content": ["a", 2, "b"], "add_special": True}, [1, 97, 2, 98]),
        ({"content": ""}, []),
    ],
)
async def test_tokenize(server, fields, tokens):
    assert await (await server.post("/tokenize", fields)).json() == {"tokens": tokens}


async def test_pieces_are_texts_or_bytes_of_part_of_a_character(server):
    response = await server.post("/tokenize", {"content": "aé", "with_pieces": True})
    assert (await response.json())["tokens"] == [
        {"id": 97, "piece": "a"},
        {"id": 0xC3, "piece": [0xC3]},
        {"id": 0xA9, "piece": [0xA9]},
    ]


async def test_detokenize(server):
    response = await server.post("/detokenize", {"tokens": [97, 0xC3, 0xA9]})
    assert await response.json() == {"content": "aé"}
    response = await server.post("/detokenize", {"tokens": [0xC3]})
    assert await response.json() == {"content": "\ufffd"}


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {}, "content"),
        ("/tokenize", {"content": ["a", -1]}, "content[1]"),
        ("/tokenize", {"content": [[1]]}, "content[0]"),
        ("/detokenize", {}, "tokens"),
        ("/detokenize", {"tokens": [2**31]}, "tokens[0]"),
        ("/detokenize", {"tokens": ["a"]}, "tokens[0]"),
        ("/detokenize", {"tokens": [256]}, "tokens"),
        ("/apply-template", {"messages": []}, "messages"),
        ("/infill", {"input_prefix": "a"}, "input_suffix"),
        ("/infill", {"input_prefix": "a", "input_suffix": "b", "n_predict": -2}, "n_predict"),
    ],
)
async def test_bodies_that_make_no_sense_are_400s_that_name_the_field(server, path, body, param):
    assert await problem(server, path, body) == (400, param)


async def test_apply_template_takes_a_chats_body(server):
    body = {
        "messages": [{"role": "user", "content": "Hi"}, {"role": "user", "content": "there"}],
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "reasoning_effort": "none",
    }
    response = await server.post("/apply-template", body)
    assert await response.json() == {"prompt": "Hi there"}
    (prompt,) = server.engine.rendered
    assert ([tool.name for tool in prompt.tools], prompt.enable_thinking) == (["f"], False)


@pytest.mark.parametrize("path", [EMBED, RERANK, "/tokenize", "/detokenize", "/infill"])
async def test_an_unknown_model_is_a_404(server, path):
    body = {
        "model": "no", "input": "a", "query": "a", "documents": ["a"], "content": "a", "tokens": [1],
        "input_prefix": "a", "input_suffix": "b",
    }  # fmt: skip
    assert await problem(server, path, body) == (404, "model")


@pytest.mark.parametrize("path", [EMBED, RERANK, "/tokenize", "/detokenize", "/apply-template"])
async def test_the_query_may_say_not_to_wait_for_the_model(server, path):
    body = {
        "input": "a", "query": "a", "documents": ["a"], "content": "a", "tokens": [1],
        "messages": [{"role": "user", "content": "Hi"}],
    }  # fmt: skip
    assert (await server.post(path + "?wait=false", body)).status == 200
    assert server.pool.how["wait"] is False
    assert await problem(server, path + "?wait=perhaps", body) == (400, "wait")


GAP = {"input_prefix": "def f(", "input_suffix": "):", "n_predict": 8}


async def test_infill_has_llama_servers_shape(start):
    server = await start(lambda _: [Accepted(5), Delta(text="x"), finished(cached=2, stop="\n")])
    body = {
        **GAP,
        "prompt": "self, ",
        "input_extra": [{"filename": "a.py", "text": "import os"}],
        "t_max_predict_ms": 500,
    }
    answer = await (await server.post("/infill", body)).json()
    timings = answer.pop("timings")
    assert timings["predicted_n"] == 3
    assert answer == {
        "index": 0,
        "content": "x",
        "tokens": [],
        "stop": True,
        "model": "tiny",
        "tokens_predicted": 3,
        "tokens_evaluated": 5,
        "tokens_cached": 2,
        "truncated": False,
        "stop_type": "word",
        "stopping_word": "\n",
    }
    (request,) = server.engine.requests
    assert request.max_tokens == 8
    assert request.prompt == InfillPrompt(
        prefix="def f(self, ", suffix="):", extra=[("a.py", "import os")]
    )


async def test_infill_shows_the_fields_that_were_asked_for(start):
    server = await start(lambda _: [Accepted(5), Delta(text="x"), finished("length")])
    body = {**GAP, "response_fields": ["content", "stop_type", "timings/predicted_n", "no/such"]}
    answer = await (await server.post("/infill", body)).json()
    assert answer == {"content": "x", "stop_type": "limit", "predicted_n": 3}


async def test_infill_streams(start):
    server = await start(lambda _: [Accepted(5), Delta(text="x"), finished()])
    text = await (await server.post("/infill", {**GAP, "stream": True})).text()
    first, last, rest = text.split("\n\n")
    assert first == 'data: {"index":0,"content":"x","tokens":[],"stop":false}'
    assert '"stop":true' in last
    assert '"stop_type":"eos"' in last
    assert rest == ""
