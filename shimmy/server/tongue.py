"""Which API a client speaks, where the endpoint does not settle it."""

from __future__ import annotations

from aiohttp import web


def is_anthropic(request: web.Request) -> bool:
    """Tell whether Anthropic's forms are expected; their clients always send the version."""
    return request.path.startswith("/v1/messages") or "anthropic-version" in request.headers
