"""GET /api/status, /api/models, /api/models/{name}/status: what the models are doing.

The keys of the Rust shimmy's lists are kept; there is more beside them.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from shimmy.models.status import ModelStatus
from shimmy.server.health import VERSION
from shimmy.server.keys import ACTIVITY, CONFIG, POOL, UPGRADE
from shimmy.server.reply import json_response
from shimmy.server.sse import ClientGoneError, EventStream, event

# Seconds between two looks for something new to tell.
_TICK = 0.1
# Changes of these alone are no news: they change with every request.
_QUIET = ("requests", "requests_per_minute", "last_used", "in_flight", "queued")


async def list_models(request: web.Request) -> web.Response:
    """Return all models and their states."""
    pool = request.app[POOL]
    await pool.registry.fresh()
    models = [describe(status) for status in pool.statuses()]
    return json_response({"models": models, **_upgrade(request)})


async def discover(request: web.Request) -> web.Response:
    """Search the folders again; new files can be asked for at once."""
    pool = request.app[POOL]
    await asyncio.to_thread(pool.registry.refresh)
    models = [describe(status) for status in pool.statuses()]
    found = [model for model in models if model["source"] == "discovered"]
    return json_response({"discovered": len(found), "models": found})


async def model_status(request: web.Request) -> web.Response:
    """Return the state of one model."""
    pool = request.app[POOL]
    await pool.find(request.match_info["name"])
    status = pool.status(request.match_info["name"])
    return json_response({"model": status.entry.name, **describe(status)})


async def server_status(request: web.Request) -> web.Response:
    """Return what the server does, and each model that was asked for or is in memory."""
    pool = request.app[POOL]
    activity = request.app[ACTIVITY]
    statuses = pool.statuses()
    busy = [item for item in statuses if item.n_requests or item.state != "unloaded"]
    return json_response(
        {
            "service": "shimmy",
            "version": VERSION,
            "uptime_seconds": round(activity.uptime, 3),
            "started_at": round(time.time() - activity.uptime, 3),
            # this one is among them, and no request to a model
            "requests_active": activity.n_active - 1,
            "in_flight": sum(item.in_flight for item in statuses),
            "queued": sum(item.queued for item in statuses),
            "requests_per_minute": sum(item.per_minute for item in statuses),
            "aliases": pool.aliases.all(),
            "models": [describe(status) for status in busy],
            **_upgrade(request),
        }
    )


async def model_events(request: web.Request) -> web.StreamResponse:
    """Stream the states of the models: each at first, then what changes, load progress as well."""
    config = request.app[CONFIG]
    stream = EventStream(request, keep_alive=config.keep_alive, write_timeout=config.write_timeout)
    try:
        async with stream:
            await stream.open()
            await _tell(request, stream)
    except ClientGoneError:
        pass
    return stream.response


async def _tell(request: web.Request, stream: EventStream) -> None:
    told: dict[str, dict[str, Any]] = {}
    while not request.app[ACTIVITY].draining:
        news = []
        for status in request.app[POOL].statuses():
            body = describe(status)
            steady = {key: value for key, value in body.items() if key not in _QUIET}
            if told.get(status.entry.path) != steady:
                told[status.entry.path] = steady
                news.append(event(msgspec.json.encode({"model": status.entry.name, **body})))
        await stream.send(b"".join(news))
        await asyncio.sleep(_TICK)


def _upgrade(request: web.Request) -> dict[str, Any]:
    """Return what `serve --auto` is doing; nothing without it. Sizes in bytes."""
    upgrade = request.app.get(UPGRADE)
    if upgrade is None:
        return {}
    status = upgrade.status
    body = {
        "alias": status.alias,
        "starter": status.starter,
        "status": status.state,
        "model": status.model,
        "bytes": status.n_bytes,
        "size_bytes": status.size or None,
        "progress": round(status.progress, 3),
        "error": status.error,
    }
    return {"upgrade": body}


def describe(status: ModelStatus) -> dict[str, Any]:
    """Return a model and its state as JSON; sizes in bytes, `last_used` in Unix seconds."""
    entry = status.entry
    return {
        "name": entry.name,
        "size_bytes": entry.size,
        "model_type": entry.architecture,
        "parameter_count": entry.size_label,
        # the Rust shimmy knew two words; the built-in model is registered, not found
        "source": "discovered" if entry.source == "discovered" else "registered",
        "kind": entry.kind,
        "quantization": entry.quantisation,
        "context_length": entry.n_ctx_train,
        "aliases": list(entry.aliases),
        "input_modalities": ["text", "image"] if status.sees else ["text"],
        **_projector(status),
        "status": status.state,
        "loaded": status.state in {"loaded", "restarting"},
        "progress": status.progress,
        "pinned": status.pinned,
        "in_flight": status.in_flight,
        "queued": status.queued,
        "requests": status.n_requests,
        "requests_per_minute": status.per_minute,
        "last_used": status.last_used,
        "idle_unload_seconds": status.idle_unload,
        "memory_estimate_bytes": status.need,
        "load_ms": status.load_ms,
        "restarts": status.restarts,
        "placement": status.placement,
        "notes": status.notes,
        "error": status.error,
    }


def _projector(status: ModelStatus) -> dict[str, Any]:
    """Return the projector's file and whether the model sees images through it; why not, if so."""
    known = status.projector or status.entry.projector
    if known is None:
        return {"projector": None, "vision": False, "projector_note": None}
    note = "not used: it could not be loaded" if status.projector else "not used: switched off"
    if not status.entry.sees:
        note = status.entry.projector_use
    return {
        "projector": Path(known).name,
        "vision": status.sees,
        "projector_note": None if status.sees else note,
    }
