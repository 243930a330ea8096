"""POST /api/models/{name}/load and unload, aliases, and llama-server's words for the same."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from shimmy.models.status import ModelStatus, State
from shimmy.server.dialects.fields import decode
from shimmy.server.holding import switch
from shimmy.server.keys import POOL
from shimmy.server.reply import json_response


class _AliasBody(msgspec.Struct):
    model: str | None


class _ModelBody(msgspec.Struct):
    model: str


_alias = msgspec.json.Decoder(_AliasBody)
_model = msgspec.json.Decoder(_ModelBody)

# our state: llama-server's word
_ROUTER_STATES: dict[State, str] = {
    "unloaded": "unloaded",
    "queued": "loading",
    "loading": "loading",
    "loaded": "loaded",
    "restarting": "loading",
    "unloading": "unloaded",
    "failed": "unloaded",
}


async def load(request: web.Request) -> web.Response:
    """Load a model and answer when it is ready; with `wait=false` at once, with status 202."""
    pool = request.app[POOL]
    wait = switch(request, "wait", default=True)
    entry = await pool.load(request.match_info["name"], wait=wait)
    status = pool.status(entry.name)
    if status.state == "loaded":
        body = {"message": f"Model {entry.name} is loaded", "status": "loaded"}
        return json_response({**body, "model": entry.name, "load_ms": status.load_ms})
    body = {"message": f"Model {entry.name} load requested", "status": "pending"}
    return json_response({**body, "model": entry.name}, status=202)


async def unload(request: web.Request) -> web.Response:
    """Unload a model when its requests are done; with `force=true` they end with an error."""
    pool = request.app[POOL]
    entry = await pool.find(request.match_info["name"])
    force = switch(request, "force", default=False)
    was_loaded = await pool.unload(entry.name, force=force)
    said = "was unloaded" if was_loaded else "was not loaded"
    return json_response(
        {"message": f"Model {entry.name} {said}", "status": "unloaded", "model": entry.name}
    )


async def list_aliases(request: web.Request) -> web.Response:
    """Return the aliases and the models that they mean."""
    return json_response({"aliases": request.app[POOL].aliases.all()})


async def point_alias(request: web.Request) -> web.Response:
    """Let an alias mean another model once that is loaded; `model` null removes the alias.

    Requests that run stay with their model, later ones get the new one. With `load=false` the
    first of them loads it.
    """
    pool = request.app[POOL]
    alias = request.match_info["alias"]
    model = decode(_alias, await request.read()).model
    if model is None:
        return json_response({"alias": alias, "model": None, "removed": pool.aliases.remove(alias)})
    entry = await pool.find(model)
    if switch(request, "load", default=True):
        await pool.load(entry.name)
    pool.aliases.point(alias, entry.name)
    return json_response({"alias": alias, "model": entry.name})


async def router_list(request: web.Request) -> web.Response:
    """GET /models: llama-server's list, with `status.value`."""
    pool = request.app[POOL]
    await pool.registry.fresh()
    return json_response({"object": "list", "data": [_router(item) for item in pool.statuses()]})


async def router_load(request: web.Request) -> web.Response:
    """POST /models/load: begin to load, and answer at once."""
    await request.app[POOL].load(decode(_model, await request.read()).model, wait=False)
    return json_response({"success": True})


async def router_unload(request: web.Request) -> web.Response:
    """POST /models/unload: unload when the model's requests are done."""
    await request.app[POOL].unload(decode(_model, await request.read()).model)
    return json_response({"success": True})


def _router(status: ModelStatus) -> dict[str, Any]:
    value: dict[str, Any] = {"value": _ROUTER_STATES[status.state]}
    if status.state == "failed":
        value |= {"failed": True, "error": status.error}
    return {
        "id": status.entry.name,
        "object": "model",
        "created": status.entry.modified,
        "owned_by": "shimmy",
        "aliases": list(status.entry.aliases),
        "status": value,
    }
