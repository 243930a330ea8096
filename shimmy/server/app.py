"""The application: routes, and what every request passes through."""

from __future__ import annotations

import logging

from aiohttp import web

from shimmy.config import ServerConfig
from shimmy.errors import ModelNotFoundError
from shimmy.server import calls, docs, guard, middleware, pool_orders, pool_status
from shimmy.server.activity import Activity
from shimmy.server.counting import count_tokens
from shimmy.server.dialects import anthropic, infill, native, openai_chat, openai_completions
from shimmy.server.handler import handle
from shimmy.server.health import ENDPOINTS, health, index
from shimmy.server.keys import ACTIVITY, CONFIG, COUNTS, ON_LOOPBACK, POOL, UPGRADE
from shimmy.server.loras import list_loras, set_loras
from shimmy.server.metrics.counts import Counts
from shimmy.server.metrics.route import metrics
from shimmy.server.models import get_model, list_models
from shimmy.server.openapi import openapi
from shimmy.server.props import get_props, set_props
from shimmy.server.response_store import ResponseStore
from shimmy.server.responses import Responses
from shimmy.server.seams import Pool, Upgrade
from shimmy.server.slots import act_on_slot, list_slots

log = logging.getLogger(__name__)


def make_app(
    pool: Pool, config: ServerConfig | None = None, *, upgrade: Upgrade | None = None
) -> web.Application:
    """Return the application over `pool`, which it starts and closes, and tells of `upgrade`.

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
    if upgrade is not None:
        app[UPGRADE] = upgrade
    app[ACTIVITY] = Activity()
    app[COUNTS] = Counts()
    app[ON_LOOPBACK] = True
    app.add_routes(
        [
            web.get("/", index),
            web.get(ENDPOINTS["health"], health),
            web.get(ENDPOINTS["metrics"], metrics),
            web.get(ENDPOINTS["models"], list_models),
            # names may hold slashes, as in org/model
            web.get(ENDPOINTS["models"] + "/{id:.+}", get_model),
            web.post(ENDPOINTS["chat"], handle(openai_chat)),
            web.post(ENDPOINTS["completions"], handle(openai_completions)),
            web.post(ENDPOINTS["generate"], handle(native)),
            web.get(ENDPOINTS["slots"], list_slots),
            web.post(ENDPOINTS["slots"] + "/{id_slot}", act_on_slot),
            web.get(ENDPOINTS["props"], get_props),
            web.post(ENDPOINTS["props"], set_props),
            web.get(ENDPOINTS["lora_adapters"], list_loras),
            web.post(ENDPOINTS["lora_adapters"], set_loras),
            *_call_routes(),
            *_document_routes(),
            *_pool_routes(),
            *_anthropic_routes(),
            *_responses_routes(Responses(ResponseStore())),
        ]
    )
    app.on_response_prepare.append(middleware.decorate)
    app.on_startup.append(_start_pool)
    app.on_cleanup.append(_close_pool)
    return app


def _call_routes() -> list[web.RouteDef]:
    # llama-server and text-embeddings-inference have it under other paths
    rerank_paths = (ENDPOINTS["rerank"], "/rerank", "/v1/reranking", "/reranking")
    return [
        web.post(ENDPOINTS["embeddings"], calls.embeddings),
        *[web.post(path, calls.rerank) for path in rerank_paths],
        web.post(ENDPOINTS["tokenize"], calls.tokenize),
        web.post(ENDPOINTS["detokenize"], calls.detokenize),
        web.post(ENDPOINTS["apply_template"], calls.apply_template),
        web.post(ENDPOINTS["infill"], handle(infill)),
    ]


def _document_routes() -> list[web.RouteDef]:
    return [
        web.get(ENDPOINTS["openapi"], openapi),
        web.get(ENDPOINTS["docs"], docs.page),
        web.get(ENDPOINTS["docs"] + "/{name}", docs.file),
    ]


def _pool_routes() -> list[web.RouteDef]:
    loaded, router = ENDPOINTS["loaded"], ENDPOINTS["router"]
    return [
        web.get(ENDPOINTS["status"], pool_status.server_status),
        web.get(loaded, pool_status.list_models),
        web.get(loaded + "/events", pool_status.model_events),
        web.post(loaded + "/discover", pool_status.discover),
        web.get(loaded + "/{name:.+}/status", pool_status.model_status),
        web.post(loaded + "/{name:.+}/load", pool_orders.load),
        web.post(loaded + "/{name:.+}/unload", pool_orders.unload),
        web.get(ENDPOINTS["aliases"], pool_orders.list_aliases),
        web.post(ENDPOINTS["aliases"] + "/{alias:.+}", pool_orders.point_alias),
        web.get(router, pool_orders.router_list),
        web.post(router + "/load", pool_orders.router_load),
        web.post(router + "/unload", pool_orders.router_unload),
    ]


def _anthropic_routes() -> list[web.RouteDef]:
    counted = count_tokens(anthropic.parse_count, anthropic.error_body)
    return [
        web.post(ENDPOINTS["messages"], handle(anthropic)),
        web.post(ENDPOINTS["count_tokens"], counted),
    ]


def _responses_routes(responses: Responses) -> list[web.RouteDef]:
    counted = count_tokens(
        responses.parse_count, responses.error_body, object_name="response.input_tokens"
    )
    one = ENDPOINTS["responses"] + "/{id}"
    return [
        web.post(ENDPOINTS["responses"], handle(responses)),
        web.post(ENDPOINTS["input_tokens"], counted),
        web.get(one, responses.retrieve),
        web.delete(one, responses.delete),
        web.get(one + "/input_items", responses.input_items),
        web.post(one + "/cancel", responses.cancel),
    ]


async def _start_pool(app: web.Application) -> None:
    try:
        await app[POOL].start()
    except ModelNotFoundError as error:
        # not fatal: requests say the same, and models may come
        log.warning("%s", error.message)


async def _close_pool(app: web.Application) -> None:
    await app[POOL].close()
