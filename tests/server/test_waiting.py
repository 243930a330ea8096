"""A stream that waits for its model: comments after a while, then the answer or an error in it."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from shimmy import errors
from shimmy.server import sse
from tests.server.fakes import FakePool

BODIES = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hi"}]},
    "/v1/completions": {"prompt": "Hi"},
    "/api/generate": {"prompt": "Hi"},
}


class SlowPool(FakePool):
    """Takes its time to load the model, and may fail then."""

    loaded: asyncio.Event
    failure: Exception | None = None

    @asynccontextmanager
    async def use(self, name, **kwargs):
        await self.loaded.wait()
        if self.failure is not None:
            raise self.failure
        async with super().use(name, **kwargs) as lease:
            yield lease


@pytest.fixture
def pool() -> SlowPool:
    pool = SlowPool()
    pool.loaded = asyncio.Event()
    return pool


async def comments(response, n: int = 2) -> None:
    data = b""
    async with asyncio.timeout(10):
        while data.count(sse.COMMENT) < n:
            data += await response.content.readany()
    assert not data.replace(sse.COMMENT, b"")


@pytest.mark.parametrize("path", BODIES)
async def test_comments_come_while_the_model_is_being_loaded(start, pool, path):
    server = await start(pool=pool, keep_alive=0.02)
    body = {**BODIES[path], "stream": True}
    async with server.http.post(server.url + path, json=body) as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/event-stream"
        await comments(response)
        pool.loaded.set()
        assert (await response.text()).endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("path", BODIES)
async def test_a_load_that_fails_after_a_comment_is_an_error_in_the_stream(start, pool, path):
    server = await start(pool=pool, keep_alive=0.02)
    pool.failure = errors.ModelLoadError("bad magic")
    body = {**BODIES[path], "stream": True}
    async with server.http.post(server.url + path, json=body) as response:
        await comments(response, 1)
        pool.loaded.set()
        *_, last = (await response.text()).strip().split("\n\n")
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "model_load_failed"


async def test_a_load_that_fails_at_once_has_a_status_of_its_own(start, pool):
    server = await start(pool=pool, keep_alive=5)
    pool.failure = errors.ModelLoadError("bad magic")
    pool.loaded.set()
    response = await server.chat(stream=True)
    assert (response.status, response.headers["x-should-retry"]) == (500, "false")


async def test_an_answer_in_one_piece_waits_for_its_status(start, pool):
    server = await start(pool=pool, keep_alive=0.01)
    pool.failure = errors.ModelLoadError("bad magic")
    asking = asyncio.create_task(server.chat())
    await asyncio.sleep(0.05)
    pool.loaded.set()
    assert (await asking).status == 500


async def test_a_client_that_leaves_before_the_model_is_there_is_forgotten(start, pool, caplog):
    caplog.set_level("INFO", "shimmy.access")
    server = await start(pool=pool, keep_alive=0.02)
    body = {**BODIES["/v1/completions"], "stream": True}
    async with server.http.post(server.url + "/v1/completions", json=body) as response:
        await comments(response, 1)
    async with asyncio.timeout(10):
        while not caplog.records:
            await asyncio.sleep(0.002)
    assert server.engine.requests == []
    assert " 499 " in caplog.records[0].getMessage()


@pytest.mark.parametrize("stream", [False, True])
async def test_the_time_that_a_model_takes_is_part_of_the_timeout(start, pool, stream):
    server = await start(pool=pool, keep_alive=5)
    asking = asyncio.create_task(server.chat(stream=stream, timeout=5))
    await asyncio.sleep(0.3)
    pool.loaded.set()
    response = await asking
    assert response.status == 200
    await response.read()
    assert pool.how["patience"] == 5
    (request,) = pool.engine.requests
    assert 4 < request.timeout <= 4.9


@pytest.mark.parametrize("timeout", [0, -1])
async def test_a_timeout_that_cannot_be_is_a_400(start, pool, timeout):
    server = await start(pool=pool)
    pool.loaded.set()
    response = await server.chat(timeout=timeout)
    assert response.status == 400
    assert (await response.json())["error"]["param"] == "timeout"
