"""Endpoints that ask a model one question with one answer: vectors, scores, tokens, a template."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from aiohttp import web

from shimmy.errors import InvalidRequestError
from shimmy.models.defaults import with_system
from shimmy.server.dialects import embeddings as embed
from shimmy.server.dialects import rerank as rank
from shimmy.server.dialects import tokens as words
from shimmy.server.dialects.chat_request import prompt_of
from shimmy.server.handler import read_body
from shimmy.server.holding import switch
from shimmy.server.keys import COUNTS, POOL
from shimmy.server.reply import json_response
from shimmy.server.seams import Engine, Lease


def _hold(request: web.Request, model: str | None) -> AbstractAsyncContextManager[Lease]:
    """Hold the model as for a generation: the query may say not to wait for it."""
    return request.app[POOL].use(
        model,
        wait=switch(request, "wait", default=True),
        load=switch(request, "autoload", default=True),
    )


async def embeddings(request: web.Request) -> web.Response:
    """POST /v1/embeddings: answer with a vector for each input."""
    call = embed.parse(await read_body(request))
    async with _hold(request, call.model) as lease:
        try:
            embedded = await lease.engine.embed(call.inputs)
        except InvalidRequestError as error:
            error.param = error.param or "input"
            raise
    request.app[COUNTS].meter(lease.entry.name).embedded_tokens += sum(embedded.n_tokens)
    return json_response(embed.encode(call, lease.entry.name, embedded))


async def rerank(request: web.Request) -> web.Response:
    """POST /v1/rerank: answer with the documents, the closest to the query first."""
    call = rank.parse(await read_body(request))
    async with _hold(request, call.model) as lease:
        try:
            reranked = await lease.engine.rerank(call.query, call.documents)
        except InvalidRequestError as error:
            error.param = error.param or ("texts" if call.texts else "documents")
            raise
    request.app[COUNTS].meter(lease.entry.name).embedded_tokens += sum(reranked.n_tokens)
    return json_response(rank.encode(call, lease.entry.name, reranked))


async def tokenize(request: web.Request) -> web.Response:
    """POST /tokenize: answer with the tokens of a text."""
    body = words.parse_tokenize(await read_body(request))
    async with _hold(request, body.model) as lease:
        tokens = await _tokens(lease.engine, body)
        pieces = await lease.engine.detokenize(tokens) if body.with_pieces else None
    return json_response(words.encode_tokens(tokens, pieces))


async def _tokens(engine: Engine, body: words.TokenizeBody) -> list[int]:
    """Tokenise each text by itself; what begins a text is put before the first one only."""
    parts = [body.content] if isinstance(body.content, str) else body.content
    found: list[int] = []
    for i, part in enumerate(parts):
        if isinstance(part, int):
            found.append(part)
        else:
            found += await engine.tokenize(
                part,
                add_special=bool(body.add_special) and i == 0,
                parse_special=body.parse_special is not False,
            )
    return found


async def detokenize(request: web.Request) -> web.Response:
    """POST /detokenize: answer with the text of tokens."""
    body = words.parse_detokenize(await read_body(request))
    async with _hold(request, body.model) as lease:
        pieces = await lease.engine.detokenize(body.tokens)
    return json_response(words.encode_text(pieces))


async def apply_template(request: web.Request) -> web.Response:
    """POST /apply-template: answer with what the model would read of a conversation."""
    body = words.parse_template(await read_body(request))
    prompt = prompt_of(body)
    async with _hold(request, body.model) as lease:
        rendering = await lease.engine.render(with_system(prompt, lease.entry.system))
    return json_response(words.encode_prompt(rendering.text))
