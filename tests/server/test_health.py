"""GET /health, GET / and the models."""

from __future__ import annotations

import asyncio
from datetime import datetime

import pytest

from shimmy.errors import ModelLoadError
from tests.server.fakes import Entry, FakePool, FakeRegistry


async def test_ready_is_200_with_the_rust_keys(server):
    response = await server.get("/health")
    body = await response.json()
    assert response.status == 200
    assert (body["status"], body["service"]) == ("ok", "shimmy")
    assert body["models"] == {"total": 2, "discovered": 2, "manual": 0}
    assert {"health", "models", "chat", "generate"} <= set(body["endpoints"])
    assert body["compatibility"] == {"openai": True, "cors": False}
    assert datetime.fromisoformat(body["timestamp"]).tzinfo is not None
    assert body["version"]


async def test_uptime_is_since_the_start(server):
    first = (await (await server.get("/health")).json())["uptime_seconds"]
    await asyncio.sleep(0.02)
    second = (await (await server.get("/health")).json())["uptime_seconds"]
    assert 0 <= first < 5
    assert first + 0.01 < second


async def test_registered_and_builtin_models_are_manual(start):
    pool = FakePool()
    pool.registry._entries = [
        Entry(name="a", source="registered"),
        Entry(name="b", source="builtin"),
        Entry(name="c", source="discovered"),
    ]
    server = await start(pool=pool)
    body = await (await server.get("/health")).json()
    assert body["models"] == {"total": 3, "discovered": 1, "manual": 2}


@pytest.mark.parametrize("state", ["loading", "restarting"])
async def test_not_ready_is_503_with_progress(start, state):
    server = await start()
    server.engine.state = state
    server.engine.progress = 0.25
    response = await server.get("/health")
    body = await response.json()
    assert response.status == 503
    assert (body["status"], body["progress"]) == (state, 0.25)
    assert response.headers["Retry-After"] == "1"


async def test_failed_is_503_with_the_reason(start):
    server = await start()
    server.engine.state = "failed"
    server.engine.failure = ModelLoadError("bad magic")
    response = await server.get("/health")
    body = await response.json()
    assert response.status == 503
    assert body["status"] == "failed"
    assert body["error"] == {"code": "model_load_failed", "message": "bad magic"}


@pytest.mark.parametrize("engine", ["none", "closed"])
async def test_between_two_models_it_is_loading(start, engine):
    server = await start()
    if engine == "none":
        server.pool.engine = None
    else:
        server.engine.state = "closed"
    response = await server.get("/health")
    assert response.status == 503
    assert (await response.json())["status"] == "loading"


async def test_a_model_that_was_refused_before_it_was_loaded_is_503_failed(start):
    server = await start()
    server.pool.engine = None
    server.pool.failure = ModelLoadError("bad header")
    response = await server.get("/health")
    body = await response.json()
    assert (response.status, body["status"]) == (503, "failed")
    assert body["error"] == {"code": "model_load_failed", "message": "bad header"}


async def test_asleep_is_200(start):
    server = await start()
    server.pool.engine = None
    server.pool.is_asleep = True
    assert (await server.get("/health")).status == 200


async def test_index_points_to_the_endpoints(server):
    body = await (await server.get("/")).json()
    assert body["service"] == "shimmy"
    assert body["endpoints"]["chat"] == "/v1/chat/completions"


async def test_models_have_exactly_four_fields(server):
    body = await (await server.get("/v1/models")).json()
    assert body == {
        "object": "list",
        "data": [
            {"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "shimmy"}
            for name in ("tiny", "org/big")
        ],
    }


@pytest.mark.parametrize("path", ["/v1/models/org/big", "/v1/models/org%2Fbig"])
async def test_one_model_by_name(server, path):
    response = await server.get(path)
    assert response.status == 200
    assert (await response.json())["id"] == "org/big"


async def test_an_unknown_model_is_404(server):
    response = await server.get("/v1/models/gpt-9")
    assert response.status == 404
    assert (await response.json())["error"]["code"] == "model_not_found"


async def test_the_application_starts_and_closes_the_pool(start):
    server = await start()
    assert server.pool.started
    assert not server.pool.closed


async def test_no_model_at_all_does_not_stop_the_server(start):
    pool = FakePool(registry=FakeRegistry([]))

    async def start_nothing():
        pool.registry.resolve(None)

    pool.start = start_nothing
    server = await start(pool=pool)
    assert (await server.get("/v1/models")).status == 200
    assert (await server.chat()).status == 404
