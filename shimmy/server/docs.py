"""GET /docs: Swagger UI over /openapi.json, from files of this machine."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

FILES = ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png")
START = "start.js"

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>shimmy</title>
<link rel="icon" href="/docs/favicon-32x32.png">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
_START = 'SwaggerUIBundle({ url: "/openapi.json", dom_id: "#ui", validatorUrl: null });\n'

_HEADERS = {
    # nothing is fetched from anywhere else
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'"
    )
}


async def page(_request: web.Request) -> web.Response:
    """Answer with the page."""
    return web.Response(text=_PAGE, content_type="text/html", headers=_HEADERS)


async def file(request: web.Request) -> web.StreamResponse:
    """Answer with one of the files that the page asks for."""
    name = request.match_info["name"]
    if name == START:
        return web.Response(text=_START, content_type="text/javascript")
    if name not in FILES:
        raise web.HTTPNotFound
    from swagger_ui_bundle import swagger_ui_path  # which looks for itself on the disk

    return web.FileResponse(Path(swagger_ui_path) / name)
