"""The models' own routes, over a real pool of engines that the test controls."""

from __future__ import annotations

import asyncio
import json

import msgspec
import pytest

from shimmy.engine.types.info import DevicePlacement
from shimmy.errors import ModelLoadError
from shimmy.models.registry import Registry
from shimmy.models.status import ModelStatus
from shimmy.server.pool_status import describe
from tests.models.fake_engine import Garage
from tests.models.pools import User, entry_of, make_pool, settle


@pytest.fixture
def garage() -> Garage:
    return Garage()


@pytest.fixture
async def server(start, garage):
    entries = [entry_of("a"), entry_of("org/b"), entry_of("c")]
    registry = await asyncio.to_thread(lambda: Registry(registered=entries))
    pool = make_pool(registry, garage, max_models=2, more={"aliases": {"gpt": "a"}})
    return await start(pool=pool)


async def body(response, status: int = 200) -> dict:
    assert response.status == status
    return await response.json()


async def until(server, name: str, status: str) -> dict:
    async with asyncio.timeout(10):
        while True:
            answer = await body(await server.get(f"/api/models/{name}/status"))
            if answer["status"] == status:
                return answer
            await asyncio.sleep(0.005)


async def test_the_list_keeps_the_rust_keys_and_adds_the_state(server):
    await until(server, "a", "loaded")
    models = (await body(await server.get("/api/models")))["models"]
    assert [model["name"] for model in models] == ["a", "org/b", "c"]
    rust = {"name", "size_bytes", "model_type", "parameter_count", "source"}
    assert rust <= models[0].keys()
    assert models[0]["source"] == "registered"
    assert [model["status"] for model in models] == ["loaded", "unloaded", "unloaded"]
    assert [model["loaded"] for model in models] == [True, False, False]


async def test_the_status_says_what_lies_where(server, garage):
    await until(server, "a", "loaded")
    part = DevicePlacement(
        device="CUDA0", layers=[0, 1], experts=[1], output=True, weights=30, expert_weights=10, kv=5,
        compute=2,
    )  # fmt: skip
    engine = garage.engines[0]
    engine.info = msgspec.structs.replace(engine.info, placement=[part], notes=["no images"])
    answer = await body(await server.get("/api/models/a/status"))
    assert answer["placement"] == [msgspec.to_builtins(part)]
    assert answer["notes"] == ["no images"]
    assert (await body(await server.get("/api/models/c/status")))["placement"] == []


async def test_load_answers_when_the_model_is_ready(server, garage):
    answer = await body(await server.post("/api/models/org/b/load"))
    assert answer == {
        "message": "Model org/b is loaded",
        "status": "loaded",
        "model": "org/b",
        "load_ms": 12.5,
    }
    assert len(garage.engines) == 2


async def test_load_without_waiting_is_202_and_pending(server, garage):
    garage.instant = False
    answer = await body(await server.post("/api/models/c/load?wait=false"), 202)
    assert (answer["status"], answer["model"]) == ("pending", "c")
    await until(server, "c", "loading")
    garage.engines[-1].progress = 0.4
    assert (await until(server, "c", "loading"))["progress"] == 0.4
    garage.engines[-1].loaded()
    await until(server, "c", "loaded")


async def test_a_load_that_fails_is_500_with_the_reason_and_shows_in_the_status(server, garage):
    garage.instant = False
    loading = asyncio.ensure_future(server.post("/api/models/c/load"))
    await until(server, "c", "loading")
    garage.engines[-1].fail(ModelLoadError("bad tensor"))
    answer = await body(await loading, 500)
    assert answer["error"]["code"] == "model_load_failed"
    assert (await until(server, "c", "failed"))["error"] == "bad tensor"


async def test_unload_ends_the_engine_and_says_whether_it_was_there(server, garage):
    await until(server, "a", "loaded")
    answer = await body(await server.post("/api/models/a/unload"))
    assert answer == {"message": "Model a was unloaded", "status": "unloaded", "model": "a"}
    assert garage.n_running == 0
    again = await body(await server.post("/api/models/a/unload"))
    assert again["message"] == "Model a was not loaded"


async def test_unload_waits_for_the_requests_unless_it_is_by_force(server):
    user = User(server.pool, "a")
    await until(server, "a", "loaded")
    unloading = asyncio.ensure_future(server.post("/api/models/a/unload"))
    await until(server, "a", "unloading")
    assert not unloading.done()
    await body(await server.post("/api/models/a/unload?force=true"))
    await body(await unloading)
    await user.leave()


@pytest.mark.parametrize(
    ("method", "path", "sent"),
    [
        ("get", "/api/models/gpt-9/status", None),
        ("post", "/api/models/gpt-9/load", None),
        ("post", "/api/models/gpt-9/unload", None),
        ("post", "/api/aliases/x", {"model": "gpt-9"}),
        ("post", "/models/load", {"model": "gpt-9"}),
        ("post", "/models/unload", {"model": "gpt-9"}),
    ],
)
async def test_an_unknown_model_is_404(server, method, path, sent):
    response = await getattr(server.http, method)(server.url + path, json=sent)
    assert (await body(response, 404))["error"]["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("path", "sent", "param"),
    [
        ("/api/models/a/load?wait=perhaps", None, "wait"),
        ("/api/models/a/unload?force=2", None, "force"),
        ("/api/aliases/x", {"model": 3}, "model"),
        ("/api/aliases/" + "x" * 300, {"model": "a"}, "alias"),
        ("/models/load", {}, "model"),
    ],
)
async def test_a_wrong_word_is_400_and_named(server, path, sent, param):
    assert (await body(await server.post(path, sent), 400))["error"]["param"] == param


async def test_an_alias_is_pointed_when_the_new_model_is_loaded(server, garage):
    assert (await body(await server.get("/api/aliases")))["aliases"] == {"gpt": "a"}
    assert (await until(server, "gpt", "loaded"))["model"] == "a"
    garage.instant = False
    switching = asyncio.ensure_future(server.post("/api/aliases/gpt", {"model": "org/b"}))
    await until(server, "org/b", "loading")
    assert server.pool.resolve("gpt").name == "a"  # until the other one is there
    garage.engines[-1].loaded()
    assert await body(await switching) == {"alias": "gpt", "model": "org/b"}
    assert server.pool.resolve("gpt").name == "org/b"


async def test_a_model_that_does_not_load_gets_no_alias(server, garage):
    garage.instant = False
    switching = asyncio.ensure_future(server.post("/api/aliases/gpt", {"model": "c"}))
    await until(server, "c", "loading")
    garage.engines[-1].fail(ModelLoadError("bad tensor"))
    await body(await switching, 500)
    assert server.pool.resolve("gpt").name == "a"


async def test_an_alias_is_removed_by_null(server):
    answer = await body(await server.post("/api/aliases/gpt", {"model": None}))
    assert answer == {"alias": "gpt", "model": None, "removed": True}
    await body(await server.get("/api/models/gpt/status"), 404)


async def test_the_status_counts_requests_per_model(server):
    users = [User(server.pool, "a") for _ in range(5)]
    await until(server, "a", "loaded")
    answer = await body(await server.get("/api/status"))
    assert (answer["service"], answer["aliases"]) == ("shimmy", {"gpt": "a"})
    assert (answer["in_flight"], answer["queued"], answer["requests_per_minute"]) == (5, 0, 5)
    assert answer["requests_active"] == 0
    (model,) = answer["models"]
    assert (model["name"], model["requests"], model["in_flight"]) == ("a", 5, 5)
    assert model["last_used"] >= answer["started_at"] - 1
    assert answer["uptime_seconds"] >= 0
    for user in users:
        await user.leave()


async def test_discover_finds_new_files_that_can_be_asked_for(start, garage, tmp_path, tiny_gguf):
    registry = await asyncio.to_thread(lambda: Registry(roots=[tmp_path]))
    server = await start(pool=make_pool(registry, garage))
    answer = await body(await server.post("/api/models/discover"))
    assert answer == {"discovered": 0, "models": []}
    await asyncio.to_thread((tmp_path / "new.gguf").symlink_to, tiny_gguf)
    answer = await body(await server.post("/api/models/discover"))
    assert answer["discovered"] == 1
    assert [model["name"] for model in answer["models"]] == ["new"]
    assert (await body(await server.post("/api/models/new/load")))["status"] == "loaded"


async def test_the_event_stream_tells_each_state_and_its_changes(server, garage):
    await until(server, "a", "loaded")
    garage.instant = False
    seen = []
    async with asyncio.timeout(10):
        async with server.http.get(server.url + "/api/models/events") as response:
            assert response.content_type == "text/event-stream"
            await body(await server.post("/api/models/c/load?wait=false"), 202)
            async for line in response.content:
                if not line.startswith(b"data: "):
                    continue
                told = json.loads(line[6:])
                seen.append((told["model"], told["status"], told["progress"]))
                if seen[-1] == ("c", "loading", 0.0):
                    garage.engines[-1].progress = 0.5
                elif seen[-1] == ("c", "loading", 0.5):
                    garage.engines[-1].loaded()
                elif seen[-1] == ("c", "loaded", 1.0):
                    break
    assert ("a", "loaded", 1.0) in seen
    assert len(seen) == len(set(seen))


async def test_llama_servers_routes_list_load_and_unload(server, garage):
    await until(server, "a", "loaded")
    listed = (await body(await server.get("/models")))["data"]
    assert {item["id"]: item["status"]["value"] for item in listed} == {
        "a": "loaded",
        "org/b": "unloaded",
        "c": "unloaded",
    }
    assert await body(await server.post("/models/load", {"model": "c"})) == {"success": True}
    await until(server, "c", "loaded")
    assert await body(await server.post("/models/unload", {"model": "c"})) == {"success": True}
    await until(server, "c", "unloaded")


async def test_health_is_200_when_nothing_is_loaded_for_want_of_requests(server):
    await until(server, "a", "loaded")
    await body(await server.post("/api/models/a/unload"))
    await settle()
    assert (await body(await server.get("/health")))["status"] == "ok"


@pytest.mark.parametrize(
    ("query", "how"),
    [
        ("", {"wait": True, "load": True, "patience": None, "idle_unload": None}),
        ("?wait=false", {"wait": False, "load": True, "patience": None, "idle_unload": None}),
        ("?autoload=false", {"wait": True, "load": False, "patience": None, "idle_unload": None}),
    ],
)
async def test_a_request_says_in_its_query_that_it_will_not_wait(start, query, how):
    server = await start()
    sent = {"messages": [{"role": "user", "content": "Hi"}]}
    assert (await server.post("/v1/chat/completions" + query, sent)).status == 200
    assert server.pool.how == how


async def test_a_request_that_will_not_wait_is_503_with_retry_after(server, garage):
    garage.instant = False
    sent = {"model": "c", "messages": [{"role": "user", "content": "Hi"}]}
    response = await server.post("/v1/chat/completions?wait=false", sent)
    assert (await body(response, 503))["error"]["code"] == "model_loading"
    assert response.headers["Retry-After"] == "1"
    await until(server, "c", "loading")


def test_a_models_projector_is_named_and_said_to_be_for_images():
    path = "/secret/blobs/mmproj.gguf"
    entry = msgspec.structs.replace(entry_of("eyes"), projector=path, senses=("vision",))
    told = describe(ModelStatus(entry=entry, projector=path))
    assert (told["projector"], told["input_modalities"]) == ("mmproj.gguf", ["text", "image"])
    assert (told["vision"], told["projector_note"]) == (True, None)
    assert describe(ModelStatus(entry=entry_of("a")))["projector"] is None
    assert describe(ModelStatus(entry=entry_of("a")))["vision"] is False
    blind = describe(ModelStatus(entry=entry, projector=path, vision=False))
    assert (blind["vision"], blind["input_modalities"]) == (False, ["text"])
    assert blind["projector_note"] == "not used: it could not be loaded"


@pytest.mark.parametrize(
    ("senses", "note"),
    [
        (("audio",), "not used: sound is not supported yet"),
        (("vision",), "not used: switched off"),
    ],
)
def test_a_projector_that_is_not_used_is_named_with_the_reason(senses, note):
    entry = msgspec.structs.replace(entry_of("ears"), projector="/m/mmproj.gguf", senses=senses)
    told = describe(ModelStatus(entry=entry))
    assert (told["projector"], told["input_modalities"]) == ("mmproj.gguf", ["text"])
    assert (told["vision"], told["projector_note"]) == (False, note)
