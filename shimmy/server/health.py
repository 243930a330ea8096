"""GET /health: whether requests would be answered now, and what is there."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

import shimmy
from shimmy.errors import ShimmyError
from shimmy.server.keys import ACTIVITY, CONFIG, POOL
from shimmy.server.reply import json_response
from shimmy.server.seams import Engine, Pool

ENDPOINTS = {
    "health": "/health",
    "models": "/v1/models",
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "generate": "/api/generate",
    "embeddings": "/v1/embeddings",
    "rerank": "/v1/rerank",
    "tokenize": "/tokenize",
    "detokenize": "/detokenize",
    "apply_template": "/apply-template",
    "infill": "/infill",
    "openapi": "/openapi.json",
    "docs": "/docs",
    "messages": "/v1/messages",
    "count_tokens": "/v1/messages/count_tokens",
    "responses": "/v1/responses",
    "input_tokens": "/v1/responses/input_tokens",
    "slots": "/slots",
    "props": "/props",
    "lora_adapters": "/lora-adapters",
    "loaded": "/api/models",
    "status": "/api/status",
    "metrics": "/metrics",
    "aliases": "/api/aliases",
    "router": "/models",
}
"""What there is to ask, by a short name; the keys of the Rust shimmy, and more."""


def _version() -> str:
    try:
        return shimmy.__version__
    except ImportError:
        # a tree that was never installed
        return "unknown"


# read once: it comes from a file
VERSION = _version()


async def health(request: web.Request) -> web.Response:
    """Answer 200 `status: ok` when the model is loaded, else 503 with what it is doing."""
    pool = request.app[POOL]
    engine = pool.current
    state = "loading" if engine is None or engine.state == "closed" else str(engine.state)
    if engine is None and pool.is_asleep:
        # all were unloaded for want of requests: the next one loads its model
        state = "ready"
    elif engine is None and pool.failure is not None:
        state = "failed"
    body: dict[str, Any] = {
        "status": "ok" if state == "ready" else state,
        "service": "shimmy",
        "version": VERSION,
        "models": _count(pool),
        "endpoints": ENDPOINTS,
        "compatibility": {"openai": True, "cors": bool(request.app[CONFIG].cors_origins)},
        "timestamp": datetime.fromtimestamp(time.time(), UTC).isoformat(),
        "uptime_seconds": round(request.app[ACTIVITY].uptime, 3),
    }
    if engine is not None:
        body |= _describe(engine, state)
    elif state == "failed":
        body["error"] = _error(pool.failure)
    elif state == "loading":
        body["progress"] = 0.0
    if state == "ready":
        return json_response(body)
    return json_response(body, status=503, headers={"Retry-After": "1"})


def _describe(engine: Engine, state: str) -> dict[str, Any]:
    body: dict[str, Any] = {"requests_active": engine.n_active, "restarts": engine.restarts}
    if engine.info is not None:
        body["n_ctx"] = engine.info.n_ctx
        body["n_parallel"] = engine.info.n_parallel
    if state in {"loading", "restarting"}:
        body["progress"] = round(engine.progress, 3)
    if state != "ready":
        body |= {"error": _error(engine.failure)} if engine.failure is not None else {}
    return body


def _error(error: ShimmyError | None) -> dict[str, str] | None:
    return {"code": error.code, "message": error.message} if error is not None else None


def _count(pool: Pool) -> dict[str, int]:
    entries = pool.registry.entries()
    found = sum(entry.source == "discovered" for entry in entries)
    return {"total": len(entries), "discovered": found, "manual": len(entries) - found}


async def index(_request: web.Request) -> web.Response:
    """GET /: say what this is and where to go."""
    return json_response({"service": "shimmy", "version": VERSION, "endpoints": ENDPOINTS})
