"""POST /v1/rerank: a query and documents in, how close each is out.

Two forms of body are known, and each has its own answer: Jina's (`documents`) and that of Hugging
Face's text-embeddings-inference (`texts`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import msgspec

from shimmy.engine.types.frame import Reranked
from shimmy.server.dialects.fields import decode
from shimmy.server.dialects.openai import encode_json
from shimmy.server.errors import FieldError

MAX_DOCUMENTS = 2048


class Document(msgspec.Struct, kw_only=True):
    """A document that is an object."""

    text: str


class RerankBody(msgspec.Struct, kw_only=True):
    """All fields that are known. Others are accepted and mean nothing."""

    query: str
    model: str | None = None

    # Jina's
    documents: list[str | Document] | None = None
    top_n: int | None = None
    return_documents: bool | None = None

    # text-embeddings-inference's
    texts: list[str] | None = None
    raw_scores: bool | None = None
    return_text: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankCall:
    """A body, understood; `texts` tells whether it is text-embeddings-inference's form."""

    model: str | None
    query: str
    documents: list[str]
    top_n: int
    texts: bool
    show: bool
    raw: bool


_decoder = msgspec.json.Decoder(RerankBody)


def parse(raw: bytes) -> RerankCall:
    """Return what the body asks for.

    Raises:
        FieldError: it makes no sense; names the field.
    """
    body = decode(_decoder, raw)
    if body.documents is not None and body.texts is not None:
        raise _bad("texts", "give documents or texts, not both")
    given = body.texts if body.documents is None else body.documents
    field = "documents" if body.texts is None else "texts"
    if not given:
        raise _bad(field, f"{field} must hold at least one text")
    if len(given) > MAX_DOCUMENTS:
        raise _bad(field, f"{field} may hold up to {MAX_DOCUMENTS} texts, got {len(given)}")
    if not body.query:
        raise _bad("query", "query must not be empty")
    if body.top_n is not None and body.top_n < 1:
        raise _bad("top_n", f"top_n must be at least 1, got {body.top_n}")
    return RerankCall(
        model=body.model,
        query=body.query,
        documents=[each if isinstance(each, str) else each.text for each in given],
        top_n=min(body.top_n or len(given), len(given)),
        texts=body.texts is not None,
        show=bool(body.return_documents if body.texts is None else body.return_text),
        raw=bool(body.raw_scores),
    )


def encode(call: RerankCall, model: str, reranked: Reranked) -> bytes:
    """Return the documents' numbers and scores, the closest first."""
    order = sorted(range(len(reranked.scores)), key=lambda i: -reranked.scores[i])[: call.top_n]
    if call.texts:
        return encode_json([_text_result(call, i, reranked.scores[i]) for i in order])
    n_tokens = sum(reranked.n_tokens)
    return encode_json(
        {
            "model": model,
            "object": "list",
            "usage": {"prompt_tokens": n_tokens, "total_tokens": n_tokens},
            "results": [_result(call, i, reranked.scores[i]) for i in order],
        }
    )


def _result(call: RerankCall, index: int, score: float) -> dict[str, Any]:
    result: dict[str, Any] = {"index": index, "relevance_score": score}
    return {**result, "document": {"text": call.documents[index]}} if call.show else result


def _text_result(call: RerankCall, index: int, score: float) -> dict[str, Any]:
    """Scores are between 0 and 1 in this form, unless raw ones are asked for."""
    if not call.raw:
        # written so that no score overflows
        score = 0.5 * (1.0 + math.tanh(score / 2))
    result: dict[str, Any] = {"index": index, "score": score}
    return {**result, "text": call.documents[index]} if call.show else result


def _bad(param: str, message: str) -> FieldError:
    return FieldError(message, param=param, code="invalid_value")
