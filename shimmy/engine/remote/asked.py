"""Questions with one answer, where other servers have an endpoint for them."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol, TypeVar

import msgspec
import numpy as np

from shimmy.engine.types.frame import (
    Answer,
    Call,
    Embed,
    Embedded,
    Rerank,
    Reranked,
    Tokenize,
    Tokens,
)
from shimmy.engine.types.prompt import TextPrompt, TokenPrompt
from shimmy.errors import InvalidRequestError

ResultT = TypeVar("ResultT")


class Posts(Protocol):
    """A server that can be asked."""

    async def post(self, path: str, body: dict[str, Any], kind: type[ResultT]) -> ResultT:
        """Return the answer to a POST."""


class _Vector(msgspec.Struct):
    embedding: list[float]


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int = 0
    total_tokens: int = 0


class _Vectors(msgspec.Struct):
    data: list[_Vector]
    usage: _Usage = _Usage()


class _Score(msgspec.Struct):
    index: int
    relevance_score: float


class _Scores(msgspec.Struct):
    results: list[_Score]


class _Ids(msgspec.Struct):
    tokens: list[int]


async def ask(server: Posts, command: Call, model: str) -> Answer:
    """Return the answer to `command`.

    Raises:
        InvalidRequestError: there is no endpoint for it.
    """
    match command:
        case Tokenize():
            body = {
                "content": command.text,
                "add_special": command.add_special,
                "parse_special": command.parse_special,
                "model": model,
            }
            return Tokens(command.id, (await server.post("/tokenize", body, _Ids)).tokens)
        case Embed():
            parts = [_embed(server, item, model) for item in command.inputs]
            found = await asyncio.gather(*parts)
            return Embedded(command.id, [vector for vector, _ in found], [n for _, n in found])
        case Rerank():
            return await _rerank(server, command, model)
        case _:
            raise InvalidRequestError(
                f"{type(command).__name__.lower()} cannot be asked of another server; load the "
                "model with Engine.solo or child"
            )


async def _embed(server: Posts, item: TextPrompt | TokenPrompt, model: str) -> tuple[bytes, int]:
    """One input at a time: a server counts the tokens of a request, not of an input."""
    given = item.text if isinstance(item, TextPrompt) else item.tokens
    body = {"model": model, "input": given, "encoding_format": "float"}
    answer = await server.post("/v1/embeddings", body, _Vectors)
    vector = np.asarray(answer.data[0].embedding if answer.data else [], dtype="<f4")
    length = float(np.linalg.norm(vector)) or 1.0
    return (vector / np.float32(length)).tobytes(), answer.usage.prompt_tokens


async def _rerank(server: Posts, command: Rerank, model: str) -> Reranked:
    body = {"model": model, "query": command.query, "documents": command.documents}
    answer = await server.post("/v1/rerank", body, _Scores)
    scores = [0.0] * len(command.documents)
    for score in answer.results:
        if 0 <= score.index < len(scores):
            scores[score.index] = score.relevance_score
    # the API counts the tokens of the whole request only
    return Reranked(command.id, scores, [0] * len(scores))
