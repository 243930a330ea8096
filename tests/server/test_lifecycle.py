"""serve(): open at once, drained at the first signal, gone at the second."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import asynccontextmanager

import aiohttp
import pytest

from shimmy.config import ServerConfig
from shimmy.engine.types.event import Accepted, Delta
from shimmy.server import bind, make_app, serve
from shimmy.server.keys import ON_LOOPBACK
from tests.server.fakes import FakeEngine, FakePool, finished

BODY = {"messages": [{"role": "user", "content": "Hi"}], "stream": True}


class Server:
    def __init__(self, script, drain: float, spec: str = "127.0.0.1:0") -> None:
        self.pool = FakePool(FakeEngine(script))
        config = ServerConfig(drain=drain)
        self.app = make_app(self.pool, config)
        self.sock = bind(spec)
        self.port = self.sock.getsockname()[1]
        self.task = asyncio.create_task(serve(self.app, self.sock, config))

    async def post(self, http: aiohttp.ClientSession) -> str:
        url = f"http://127.0.0.1:{self.port}/v1/chat/completions"
        async with http.post(url, json=BODY) as response:
            return await response.text()


@asynccontextmanager
async def serving(script, *, drain: float = 5, **kwargs):
    server = Server(script, drain, **kwargs)
    async with aiohttp.ClientSession() as http:
        try:
            yield server, http
        finally:
            server.task.cancel()
            await asyncio.gather(server.task, return_exceptions=True)


def terminate(number: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


async def is_open(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionError:
        return False
    writer.close()
    return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_it_and_closes_the_pool(number):
    async with serving(lambda _: []) as (server, http):
        await server_is_up(server, http)
        terminate(number)
        async with asyncio.timeout(10):
            await server.task
        assert server.pool.closed
        assert not await is_open(server.port)


async def server_is_up(server: Server, http: aiohttp.ClientSession) -> None:
    async with asyncio.timeout(10):
        async with http.get(f"http://127.0.0.1:{server.port}/health") as response:
            await response.read()


async def test_the_port_is_open_before_the_server_runs():
    """Clients that come early wait in the socket's queue."""
    with bind("127.0.0.1:0") as sock:
        assert await is_open(sock.getsockname()[1])


async def test_health_answers_while_the_model_loads():
    async with serving(lambda _: []) as (server, http):
        server.pool.engine.state = "loading"
        async with http.get(f"http://127.0.0.1:{server.port}/health") as response:
            assert response.status == 503


async def test_running_requests_finish():
    more = asyncio.Event()
    script = [Accepted(1), Delta(text="a"), more, Delta(text="b"), finished()]
    async with serving(lambda _: script) as (server, http):
        asking = asyncio.create_task(server.post(http))
        await server.pool.engine.busy()
        terminate()
        await asyncio.sleep(0.05)
        assert not server.task.done()
        assert not await is_open(server.port)
        more.set()
        text = await asking
        assert '"b"' in text
        assert text.endswith("data: [DONE]\n\n")
        async with asyncio.timeout(10):
            await server.task


async def test_requests_that_do_not_finish_in_time_end_with_an_error():
    async with serving(lambda _: [Accepted(1), asyncio.Event()], drain=0.05) as (server, http):
        asking = asyncio.create_task(server.post(http))
        await server.pool.engine.busy()
        terminate()
        async with asyncio.timeout(10):
            await server.task
        assert '"code":"engine_closed"' in await asking


async def test_an_idle_connection_does_not_hold_it_up():
    async with serving(lambda _: [], drain=30) as (server, http):
        await server_is_up(server, http)
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        await asyncio.sleep(0.02)
        terminate()
        async with asyncio.timeout(10):
            await server.task
        writer.close()


async def test_cancelling_it_closes_the_pool():
    async with serving(lambda _: []) as (server, http):
        await server_is_up(server, http)
        server.task.cancel()
        await asyncio.gather(server.task, return_exceptions=True)
        assert server.pool.closed


@pytest.mark.parametrize(("spec", "loopback"), [("127.0.0.1:0", True), ("0.0.0.0:0", False)])
async def test_foreign_hosts_are_refused_on_loopback_only(spec, loopback, caplog):
    async with serving(lambda _: [], spec=spec) as (server, http):
        url = f"http://127.0.0.1:{server.port}/v1/models"
        async with http.get(url, headers={"Host": "box.lan"}) as response:
            assert response.status == (403 if loopback else 200)
        assert server.app[ON_LOOPBACK] is loopback
        assert ("without an API key" in caplog.text) is not loopback


PROGRAM = """
import asyncio, sys
from shimmy.config import ServerConfig
from shimmy.engine.types.event import Accepted
from shimmy.server import bind, make_app, serve
from tests.server.fakes import FakeEngine, FakePool

async def main():
    pool = FakePool(FakeEngine(lambda _: [Accepted(1), asyncio.Event()]))
    config = ServerConfig(drain=60)
    sock = bind("127.0.0.1:0")
    print(sock.getsockname()[1], flush=True)
    await serve(make_app(pool, config), sock, config)

asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_it_at_once(number):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    port = int(await process.stdout.readline())
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    payload = b'{"messages":[{"role":"user","content":"Hi"}],"stream":true}'
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
    writer.write((head % len(payload)).encode() + payload)
    async with asyncio.timeout(30):
        await reader.readuntil(b"assistant")
        process.send_signal(number)
        while await is_open(port):  # a second signal before the first is seen would be lost
            await asyncio.sleep(0.01)
        process.send_signal(number)  # an echo of the first, as `timeout` sends it
        await asyncio.sleep(0.2)
        assert process.returncode is None
        began = time.monotonic()
        process.send_signal(number)
        _, stderr = await process.communicate()
    assert process.returncode == 128 + number
    assert time.monotonic() - began < 10
    assert b"second signal" in stderr
    assert b"Traceback" not in stderr
    writer.close()
