"""The application: routes, and what every request passes through."""

from __future__ import annotations

import logging

from aiohttp import web

from shimmy.config import ServerConfig
from shimmy.errors import ModelNotFoundError
from shimmy.server import guard, middleware
from shimmy.server.activity import Activity
from shimmy.server.dialects import native, openai_chat, openai_completions
from shimmy.server.handler import handle
from shimmy.server.health import ENDPOINTS, health, index
from shimmy.server.keys import ACTIVITY, CONFIG, ON_LOOPBACK, POOL
from shimmy.server.models import get_model, list_models
from shimmy.server.seams import Pool

log = logging.getLogger(__name__)


def make_app(pool: Pool, config: ServerConfig | None = None) -> web.Application:
    """Return the application over `pool`, which it starts and closes.

    Run it with `serve`, or with a runner that has `handler_cancellation=True`: without it a client
    that leaves would not end its request.
    """
    config = config or ServerConfig()
    app = web.Application(
        middlewares=[middleware.note, middleware.report, guard.check],
        client_max_size=config.max_body_bytes,
    )
    app[POOL] = pool
    app[CONFIG] = config
    app[ACTIVITY] = Activity()
    app[ON_LOOPBACK] = True
    app.add_routes(
        [
            web.get("/", index),
            web.get(ENDPOINTS["health"], health),
            web.get(ENDPOINTS["models"], list_models),
            # names may hold slashes, as in org/model
            web.get(ENDPOINTS["models"] + "/{id:.+}", get_model),
            web.post(ENDPOINTS["chat"], handle(openai_chat)),
            web.post(ENDPOINTS["completions"], handle(openai_completions)),
            web.post(ENDPOINTS["generate"], handle(native)),
        ]
    )
    app.on_response_prepare.append(middleware.decorate)
    app.on_startup.append(_start_pool)
    app.on_cleanup.append(_close_pool)
    return app


async def _start_pool(app: web.Application) -> None:
    try:
        await app[POOL].start()
    except ModelNotFoundError as error:
        # not fatal: requests say the same, and models may come
        log.warning("%s", error.message)


async def _close_pool(app: web.Application) -> None:
    await app[POOL].close()
