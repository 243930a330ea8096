"""JSON responses."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from aiohttp import web


def json_response(
    body: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return `body` as JSON; bytes are JSON already."""
    return web.Response(
        body=body if isinstance(body, bytes) else msgspec.json.encode(body),
        status=status,
        headers=headers,
        content_type="application/json",
    )
