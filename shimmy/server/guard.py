"""Who may ask: the Host header, browsers' cross-site requests, CORS, API keys."""

from __future__ import annotations

import hmac
from ipaddress import ip_address

from aiohttp import web
from aiohttp.typedefs import Handler

from shimmy.config import ServerConfig
from shimmy.server import docs
from shimmy.server.errors import AuthenticationError, ForbiddenError
from shimmy.server.keys import CONFIG, ON_LOOPBACK

OPEN_PATHS = frozenset(
    {"/health", "/openapi.json", "/docs", *(f"/docs/{name}" for name in (*docs.FILES, docs.START))}
)
"""Answered without an API key: probes have none, nor has a browser that opens the documents."""


@web.middleware
async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let a request through, answer a CORS preflight, or raise what is wrong."""
    config = request.app[CONFIG]
    if request.app[ON_LOOPBACK]:
        _check_host(request, config)
    if is_preflight(request) and _allows_origin(request, config):
        return web.Response(status=204)
    _check_site(request, config)
    if config.api_keys and request.path not in OPEN_PATHS:
        _check_key(request, config)
    return await handler(request)


def is_preflight(request: web.Request) -> bool:
    """Tell whether a browser asks if it may ask."""
    return request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers


def add_cors(request: web.Request, response: web.StreamResponse) -> None:
    """Let a configured origin's pages read the response."""
    config = request.app[CONFIG]
    if not config.cors_origins:
        return
    response.headers.add("Vary", "Origin")
    if not _allows_origin(request, config):
        return
    headers = response.headers
    headers["Access-Control-Allow-Origin"] = request.headers["Origin"]
    headers["Access-Control-Expose-Headers"] = "x-request-id, request-id, Retry-After"
    if is_preflight(request):
        headers["Access-Control-Allow-Methods"] = "GET, POST, DELETE, OPTIONS"
        # SDKs send headers of their own (x-stainless-*), so allow what is asked for
        headers["Access-Control-Allow-Headers"] = request.headers.get(
            "Access-Control-Request-Headers", "Content-Type, Authorization, x-api-key"
        )
        headers["Access-Control-Max-Age"] = "86400"


def _allows_origin(request: web.Request, config: ServerConfig) -> bool:
    origin = request.headers.get("Origin")
    return origin is not None and ("*" in config.cors_origins or origin in config.cors_origins)


def _check_host(request: web.Request, config: ServerConfig) -> None:
    """Refuse a page that got a name of its own to point at this machine (DNS rebinding)."""
    header = request.headers.get("Host")
    if header is None or "*" in config.allowed_hosts:
        return
    host = _host_of(header)
    if host == "localhost" or _is_loopback(host):
        return
    if host not in {name.lower() for name in config.allowed_hosts}:
        raise ForbiddenError(
            f"this server is for its own machine and does not answer to the host {host!r}; "
            "use localhost, or allow the name with SHIMMY_ALLOWED_HOSTS",
            code="forbidden_host",
        )


def _host_of(header: str) -> str:
    """Return the host of a Host header, lower-case, without port and brackets."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].lower().rstrip(".")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _check_site(request: web.Request, config: ServerConfig) -> None:
    """Refuse work that a foreign page sends without asking (a form post needs no CORS)."""
    if request.method in {"GET", "HEAD", "OPTIONS"} or _allows_origin(request, config):
        return
    if request.headers.get("Sec-Fetch-Site") == "cross-site":
        raise ForbiddenError(
            "a page of another site sent this; allow its origin with SHIMMY_CORS_ORIGINS",
            code="forbidden_origin",
        )


def _check_key(request: web.Request, config: ServerConfig) -> None:
    given = _given_key(request)
    if given is None:
        raise AuthenticationError(
            "no API key; send it as 'Authorization: Bearer KEY' or as 'x-api-key: KEY'"
        )
    # all are compared, each in constant time: neither which nor how much of it fits shows
    fits = [hmac.compare_digest(given, key.encode()) for key in config.api_keys]
    if not any(fits):
        raise AuthenticationError("wrong API key")


def _given_key(request: web.Request) -> bytes | None:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip().encode(errors="surrogateescape")
    key = request.headers.get("x-api-key")
    return key.encode(errors="surrogateescape") if key else None
