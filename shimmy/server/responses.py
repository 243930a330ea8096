"""The Responses API over a store: a dialect, and the endpoints that look into the store."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from shimmy.engine.types.prompt import ChatPrompt
from shimmy.server.dialects.fields import unsupported
from shimmy.server.dialects.openai import encode_json, error_body, random_id
from shimmy.server.dialects.responses import answer
from shimmy.server.dialects.responses.items import Item
from shimmy.server.dialects.responses.request import parse, parse_count
from shimmy.server.dialects.responses.stream import ResponseStream
from shimmy.server.dialects.types import Call, Head, Output
from shimmy.server.errors import FieldError, NotFoundError, Problem
from shimmy.server.reply import json_response
from shimmy.server.response_store import ResponseStore, Stored

MAX_PAGE = 100
_PREFIXES = {"message": "msg_", "function_call": "fc_", "reasoning": "rs_"}


class Responses:
    """A `Dialect` that remembers its answers, and what there is to ask about them."""

    def __init__(self, store: ResponseStore) -> None:
        """Keep answers in `store`."""
        self._store = store

    def parse(self, body: bytes) -> Call:
        """Return what the body asks for, after what went before it."""
        return parse(body, self._store)

    def parse_count(self, body: bytes) -> tuple[str | None, ChatPrompt]:
        """Return the model's name, and the prompt whose tokens are to be counted."""
        return parse_count(body, self._store)

    def new_id(self) -> str:
        """Return an id for a response."""
        return answer.new_id()

    def encode(self, call: Call, head: Head, output: Output) -> bytes:
        """Return the response as JSON, and keep it."""
        response = answer.whole(call, head, output)
        self._keep(call, response)
        return encode_json(response)

    def stream(self, call: Call, head: Head) -> ResponseStream:
        """Return the encoder of one stream; what it ends with is kept."""
        return ResponseStream(call, head, lambda response: self._keep(call, response))

    def error_body(self, problem: Problem) -> bytes:
        """Return OpenAI's error object as JSON."""
        return error_body(problem)

    async def retrieve(self, request: web.Request) -> web.Response:
        """GET /v1/responses/{id}."""
        stored = self._stored(request)
        if request.query.get("stream", "false").lower() == "true":
            raise unsupported(
                "stream", "is not supported here: the response has ended; leave it out"
            )
        return json_response(stored.response)

    async def delete(self, request: web.Request) -> web.Response:
        """DELETE /v1/responses/{id}."""
        response_id = self._stored(request).response["id"]
        self._store.delete(response_id)
        return json_response({"id": response_id, "object": "response", "deleted": True})

    async def cancel(self, request: web.Request) -> web.Response:
        """POST /v1/responses/{id}/cancel: there is nothing to cancel, as OpenAI says it."""
        self._stored(request)
        raise FieldError(
            "only background responses can be cancelled, and there are none here; "
            "to end a response, close its connection",
            param=None,
            code="invalid_value",
        )

    async def input_items(self, request: web.Request) -> web.Response:
        """GET /v1/responses/{id}/input_items: what the model read, in pages."""
        items = list(self._stored(request).items)
        limit = _limit(request.query.get("limit", "20"))
        order = request.query.get("order", "desc")
        if order not in {"asc", "desc"}:
            raise FieldError(
                f"order must be asc or desc, got {order!r}", param="order", code="invalid_value"
            )
        if order == "desc":
            items.reverse()
        after = request.query.get("after")
        if after is not None:
            items = items[_place(items, after) + 1 :]
        page = items[:limit]
        return json_response(
            {
                "object": "list",
                "data": page,
                "first_id": page[0].id if page else None,
                "last_id": page[-1].id if page else None,
                "has_more": len(items) > limit,
            }
        )

    def _stored(self, request: web.Request) -> Stored:
        response_id = request.match_info["id"]
        stored = self._store.get(response_id)
        if stored is None:
            raise NotFoundError(
                f"Response with id '{response_id}' not found; responses are kept in memory, for an "
                "hour at most, unless store was false",
                param="id",
                code="response_not_found",
            )
        return stored

    def _keep(self, call: Call, response: dict[str, Any]) -> None:
        if call.extra.store:
            self._store.add(response, [_identified(item) for item in call.extra.items])


def _identified(item: Item) -> Item:
    if item.id:
        return item
    prefix = _PREFIXES.get(item.type or "message", "fco_")
    return msgspec.structs.replace(item, id=random_id(prefix), status=item.status or "completed")


def _limit(text: str) -> int:
    limit = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
    if not 1 <= limit <= MAX_PAGE:
        raise FieldError(
            f"limit must be between 1 and {MAX_PAGE}, got {text[:20]!r}",
            param="limit",
            code="invalid_value",
        )
    return limit


def _place(items: list[Item], item_id: str) -> int:
    for i, item in enumerate(items):
        if item.id == item_id:
            return i
    raise FieldError(
        f"after: there is no item {item_id[:64]!r} in this response",
        param="after",
        code="item_not_found",
    )
