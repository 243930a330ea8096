"""Holding the model that a request asks for, for as long as it takes to answer."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from aiohttp import web

from shimmy.errors import InvalidRequestError
from shimmy.server.dialects.types import Call
from shimmy.server.keys import POOL
from shimmy.server.seams import Engine, Lease

_WORDS = {"true": True, "1": True, "false": False, "0": False}


def hold(request: web.Request, call: Call) -> AbstractAsyncContextManager[Lease]:
    """Hold the model of `call`. The query may say not to wait: `wait=false`, `autoload=false`.

    Raises:
        InvalidRequestError: the query says neither true nor false.
    """
    return request.app[POOL].use(
        call.model,
        wait=switch(request, "wait", default=True),
        load=switch(request, "autoload", default=True),
        idle_unload=call.idle_unload,
    )


async def peek(request: web.Request) -> Engine:
    """Return the engine of the loaded model that the query's `model` names; none: the current one.

    Raises:
        ModelNotFoundError: no model has this name.
        EngineLoadingError: it is not loaded.
    """
    return await request.app[POOL].peek(request.query.get("model") or None)


def switch(request: web.Request, name: str, *, default: bool) -> bool:
    """Return a true or false of the query.

    Raises:
        InvalidRequestError: it is neither.
    """
    text = request.query.get(name)
    if text is None:
        return default
    if text.lower() not in _WORDS:
        raise InvalidRequestError(f"{name} must be true or false, got {text!r}", param=name)
    return _WORDS[text.lower()]
