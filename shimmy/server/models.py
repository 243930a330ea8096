"""GET /v1/models and /v1/models/{id}: OpenAI's four fields, no more."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from shimmy.server.keys import POOL
from shimmy.server.reply import json_response
from shimmy.server.seams import ModelEntry


async def list_models(request: web.Request) -> web.Response:
    """Return all models, loaded or not."""
    entries = request.app[POOL].registry.entries()
    return json_response({"object": "list", "data": [_model(entry) for entry in entries]})


async def get_model(request: web.Request) -> web.Response:
    """Return one model; 404 `model_not_found` lists the names there are."""
    return json_response(_model(request.app[POOL].registry.resolve(request.match_info["id"])))


def _model(entry: ModelEntry) -> dict[str, Any]:
    return {
        "id": entry.name,
        "object": "model",
        "created": entry.modified,
        "owned_by": "shimmy",
    }
