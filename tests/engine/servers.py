"""Servers to connect to: a real shimmy in this process, and one that answers what a test says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from shimmy.config import ServerConfig
from shimmy.engine import Engine
from shimmy.engine.types.options import EngineOptions
from shimmy.models.pool import Pool
from shimmy.models.registry import Registry, register
from shimmy.server import bind, make_app
from shimmy.server.lifecycle import make_runner


@asynccontextmanager
async def listening(app: web.Application) -> AsyncIterator[str]:
    """Serve an application; yield its URL."""
    runner = make_runner(app)
    await runner.setup()
    sock = bind("127.0.0.1:0")
    await web.SockSite(runner, sock).start()
    try:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def shimmy_server(options: EngineOptions, **config: Any) -> AsyncIterator[str]:
    """A real shimmy with one model, loaded in a worker process; yield its URL."""
    registry = Registry(registered=[register(Path(options.model_path))])
    pool = Pool(registry, options, make_engine=Engine.child)
    async with listening(make_app(pool, ServerConfig(**config))) as url:
        await pool.load(None)
        yield url


Reply = dict[str, Any] | list[Any] | web.Response | Callable[[web.Request], Awaitable[Any]]


@dataclass
class Stub:
    """Answers `replies` by path: JSON, a list of stream chunks, a response, or a handler."""

    replies: dict[str, Reply] = field(default_factory=dict)
    asked: list[tuple[str, Any]] = field(default_factory=list)
    headers: list[Any] = field(default_factory=list)
    n_left: int = 0
    url: str = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        self.asked.append((request.path, json.loads(raw) if raw else None))
        self.headers.append(request.headers)
        reply = self.replies.get(request.path)
        if callable(reply):
            try:
                reply = await reply(request)
            except asyncio.CancelledError:
                self.n_left += 1
                raise
        if reply is None:
            return web.json_response({"error": {"message": "no such path"}}, status=404)
        if isinstance(reply, web.StreamResponse):
            return reply
        if isinstance(reply, dict):
            return web.json_response(reply)
        return await stream(request, reply)

    @property
    def sent(self) -> dict[str, Any]:
        """The last body."""
        return self.asked[-1][1]


async def stream(request: web.Request, chunks: list[Any]) -> web.StreamResponse:
    """Answer with events: a dict as JSON, bytes as they are."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for chunk in chunks:
        data = (
            chunk if isinstance(chunk, bytes) else b"data: " + json.dumps(chunk).encode() + b"\n\n"
        )
        await response.write(data)
    await response.write_eof()
    return response


@asynccontextmanager
async def stub_server(**replies: Reply) -> AsyncIterator[Stub]:
    """A server of models `m` and `n`; keywords are replies by the last part of the path."""
    stub = Stub()
    stub.replies["/v1/models"] = {"object": "list", "data": [{"id": "m"}, {"id": "n"}]}
    stub.replies |= {PATHS[name]: reply for name, reply in replies.items()}
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_route("*", "/{path:.*}", stub.handle)
    async with listening(app) as url:
        stub.url = url
        yield stub


PATHS = {
    "models": "/v1/models",
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "embeddings": "/v1/embeddings",
    "rerank": "/v1/rerank",
    "tokenize": "/tokenize",
    "health": "/health",
    "loaded": "/api/models",
}


def chunk(delta: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A chunk of a chat."""
    reason = more.pop("finish_reason", None)
    choice = {"index": 0, "delta": delta or {}, "finish_reason": reason}
    return {"object": "chat.completion.chunk", "choices": [choice], **more}


USAGE = {"prompt_tokens": 7, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 3}}
HELLO = [
    chunk({"role": "assistant", "content": ""}),
    chunk({"content": "Hel"}),
    chunk({"content": "lo"}),
    chunk(finish_reason="stop"),
    {"choices": [], "usage": USAGE},
    b"data: [DONE]\n\n",
]
