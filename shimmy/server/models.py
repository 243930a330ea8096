"""GET /v1/models and /v1/models/{id}: OpenAI's four fields, no more, or Anthropic's."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from shimmy.server.dialects.anthropic import models as anthropic_models
from shimmy.server.keys import POOL
from shimmy.server.reply import json_response
from shimmy.server.seams import ModelEntry
from shimmy.server.tongue import is_anthropic


async def list_models(request: web.Request) -> web.Response:
    """Return all models, loaded or not, new files among them."""
    entries = await request.app[POOL].registry.fresh()
    if is_anthropic(request):
        return json_response(anthropic_models.list_body(entries))
    return json_response({"object": "list", "data": [_model(entry) for entry in entries]})


async def get_model(request: web.Request) -> web.Response:
    """Return one model; 404 `model_not_found` lists the closest names, and all."""
    entry = await request.app[POOL].find(request.match_info["id"])
    body = anthropic_models.model_body if is_anthropic(request) else _model
    return json_response(body(entry))


def _model(entry: ModelEntry) -> dict[str, Any]:
    return {
        "id": entry.name,
        "object": "model",
        "created": entry.modified,
        "owned_by": "shimmy",
    }
