"""Endpoints that say how many tokens a prompt has, and generate nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from shimmy.engine.types.prompt import ChatPrompt
from shimmy.models.defaults import with_system
from shimmy.server.errors import Problem
from shimmy.server.handler import read_body
from shimmy.server.keys import POOL, TRACE
from shimmy.server.reply import json_response

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def count_tokens(
    parse: Callable[[bytes], tuple[str | None, ChatPrompt]],
    error_form: Callable[[Problem], bytes],
    *,
    object_name: str | None = None,
) -> Handler:
    """Return the handler: `parse` gives a model's name and a prompt, the answer `input_tokens`."""

    async def count(request: web.Request) -> web.StreamResponse:
        request[TRACE].error_form = error_form
        model, prompt = parse(await read_body(request))
        async with request.app[POOL].use(model) as lease:
            meant = with_system(prompt, lease.entry.system)
            n_tokens = (await lease.engine.render(meant)).n_tokens
        named = {"object": object_name} if object_name else {}
        return json_response({**named, "input_tokens": n_tokens})

    return count
