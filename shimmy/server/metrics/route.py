"""GET /metrics: Prometheus's text, or JSON with the keys of the Rust shimmy for who asks for that."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from shimmy.errors import InvalidRequestError
from shimmy.server.health import ENDPOINTS, VERSION
from shimmy.server.keys import ACTIVITY, COUNTS, POOL
from shimmy.server.metrics.snapshot import Snapshot, take
from shimmy.server.reply import json_response

_MIB = 1024 * 1024
_FORMATS = ("prometheus", "json")


async def metrics(request: web.Request) -> web.Response:
    """Answer with what was counted and what there is; `?format=json`, or an Accept header, choose."""
    as_json = _wants_json(request)
    snapshot = await take(request.app[POOL])
    if as_json:
        return json_response(_body(snapshot))
    # the first time only: whom nobody watches pays nothing for it
    prometheus = await asyncio.to_thread(_exposition)
    text = prometheus.text(snapshot, request.app[COUNTS], request.app[ACTIVITY].n_active)
    return web.Response(body=text, headers={"Content-Type": prometheus.CONTENT_TYPE})


def _wants_json(request: web.Request) -> bool:
    wanted = request.query.get("format")
    if wanted is None:
        accept = request.headers.get("Accept", "")
        return "application/json" in accept and "text/plain" not in accept
    if wanted not in _FORMATS:
        raise InvalidRequestError(
            f"format must be one of {', '.join(_FORMATS)}, got {wanted!r}", param="format"
        )
    return wanted == "json"


def _exposition() -> Any:
    from shimmy.server.metrics import exposition

    return exposition


def _body(snapshot: Snapshot) -> dict[str, Any]:
    entries = [status.entry for status in snapshot.statuses]
    n_found = sum(entry.source == "discovered" for entry in entries)
    return {
        "service": "shimmy",
        "version": VERSION,
        "gpu_detected": snapshot.gpu.detected,
        "gpu_vendor": snapshot.gpu.vendor,
        "gpus": [
            {
                "device": one.device,
                "memory_free_mb": one.free // _MIB,
                "memory_total_mb": one.total // _MIB,
            }
            for one in snapshot.devices().values()
        ],
        "models": {
            "total_count": len(entries),
            "total_size_mb": sum(entry.size for entry in entries) // _MIB,
            "by_type": {"discovered": n_found, "manual": len(entries) - n_found},
            "loaded": [one.name for one in snapshot.loaded],
        },
        "system": {
            "memory_total_mb": snapshot.memory_total // _MIB,
            "memory_free_mb": snapshot.memory_free // _MIB,
            "memory_available_mb": snapshot.memory_available // _MIB,
        },
        "features": {"llama": True, "huggingface": False},
        "endpoints": list(ENDPOINTS.values()),
        "timestamp": datetime.now(UTC).isoformat(),
    }
