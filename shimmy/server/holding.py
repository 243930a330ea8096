"""Holding the model that a request asks for, for as long as it takes to answer."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import msgspec
from aiohttp import web

from shimmy.errors import InvalidRequestError
from shimmy.server.dialects.types import Call
from shimmy.server.keys import POOL
from shimmy.server.seams import Engine, Lease

_WORDS = {"true": True, "1": True, "false": False, "0": False}


@asynccontextmanager
async def hold(request: web.Request, call: Call) -> AsyncIterator[tuple[Lease, Call]]:
    """Hold the model of `call`, and yield it with what is left of `call`'s time.

    The query may say not to wait: `wait=false`, `autoload=false`.

    Raises:
        InvalidRequestError: the query says neither true nor false.
        DeadlineError: the model was not ready before the call's timeout.
    """
    clock = asyncio.get_running_loop().time
    since = clock()
    timeout = call.request.timeout
    if timeout is not None and not 0 < timeout < math.inf:
        timeout = None  # the engine refuses it by its name
    lease = request.app[POOL].use(
        call.model,
        wait=switch(request, "wait", default=True),
        load=switch(request, "autoload", default=True),
        patience=timeout,
        idle_unload=call.idle_unload,
    )
    async with lease as held:
        yield held, call if timeout is None else _after(call, timeout - (clock() - since))


def _after(call: Call, left: float) -> Call:
    """Return `call` with `left` seconds for each of its requests; the engine says when none are left."""
    left = max(left, 1e-3)
    first, *more = (
        msgspec.structs.replace(each, timeout=left) for each in (call.request, *call.more)
    )
    return replace(call, request=first, more=tuple(more))


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
