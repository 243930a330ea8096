from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass

import aiohttp
import pytest
from aiohttp import web
from blockbuster import blockbuster_ctx

from shimmy.config import ServerConfig
from shimmy.server import bind, make_app
from shimmy.server.lifecycle import make_runner
from tests.server.fakes import FakeEngine, FakePool, Script, hello


@pytest.fixture(autouse=True)
def no_blocking_calls() -> Iterator[None]:
    """Nothing in shimmy may block the event loop: a file, a lock, a sleep."""
    with blockbuster_ctx("shimmy"):
        yield


@dataclass
class Running:
    """A server on a real socket, and a client for it."""

    pool: FakePool
    port: int
    http: aiohttp.ClientSession

    @property
    def engine(self) -> FakeEngine:
        return self.pool.engine

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def get(self, path: str, **kwargs) -> aiohttp.ClientResponse:
        response = await self.http.get(self.url + path, **kwargs)
        await response.read()
        return response

    async def post(self, path: str, body: object = None, **kwargs) -> aiohttp.ClientResponse:
        """Post JSON; the response is read to its end."""
        if body is not None:
            kwargs["json"] = body
        response = await self.http.post(self.url + path, **kwargs)
        await response.read()
        return response

    async def chat(self, **fields) -> aiohttp.ClientResponse:
        body = {"messages": [{"role": "user", "content": "Hi"}], **fields}
        return await self.post("/v1/chat/completions", body)


Start = Callable[..., Awaitable[Running]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Return a function that starts a server: start(script, pool=..., **config)."""
    runners: list[web.AppRunner] = []
    sessions: list[aiohttp.ClientSession] = []

    async def begin(
        script: Script = hello, *, pool: FakePool | None = None, **config: object
    ) -> Running:
        pool = pool or FakePool(FakeEngine(script))
        runner = make_runner(make_app(pool, ServerConfig(**config)))
        runners.append(runner)
        await runner.setup()
        sock: socket.socket = bind("127.0.0.1:0")
        await web.SockSite(runner, sock).start()
        session = aiohttp.ClientSession()
        sessions.append(session)
        return Running(pool, sock.getsockname()[1], session)

    yield begin
    for session in sessions:
        await session.close()
    for runner in runners:
        await runner.cleanup()


@pytest.fixture
async def server(start: Start) -> Running:
    """A server that says Hello to everything."""
    return await start()
