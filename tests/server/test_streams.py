"""Streams on real sockets: what goes out when, and what happens when one side leaves."""

from __future__ import annotations

import asyncio
import json
import socket

import aiohttp
import pytest
from aiohttp import http_writer

from shimmy import errors
from shimmy.engine.types.event import Accepted, Delta
from shimmy.server import sse
from tests.server.fakes import FakePool, finished

CHAT = "/v1/chat/completions"
BODIES = {
    CHAT: {"messages": [{"role": "user", "content": "Hi"}], "stream": True},
    "/v1/completions": {"prompt": "Hi", "stream": True},
    "/api/generate": {"prompt": "Hi"},
}


def forever(_request):
    yield Accepted(5)
    while True:
        yield Delta(text="word ")
        yield 0.002


def silent(_request):
    return [Accepted(5), asyncio.Event()]


def events(text: str) -> list[str]:
    """Split a stream; every event must be one `data: ` line and an empty one."""
    assert text.endswith("\n\n")
    found = []
    for block in text[:-2].split("\n\n"):
        if block.startswith(":"):
            continue
        assert block.startswith("data: ")
        assert "\n" not in block
        assert not block.startswith("data: data:")
        found.append(block.removeprefix("data: "))
    return found


async def read_until(response: aiohttp.ClientResponse, what: bytes) -> bytes:
    data = b""
    async with asyncio.timeout(10):
        while what not in data:
            chunk = await response.content.readany()
            assert chunk, data
            data += chunk
    return data


def raw_request(path: str, body: dict) -> bytes:
    payload = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(payload)}\r\n\r\n"
    return head.encode() + payload


@pytest.mark.parametrize("path", BODIES)
async def test_a_stream_has_the_headers_of_one(server, path):
    response = await server.post(path, BODIES[path])
    assert response.status == 200
    assert response.headers["Content-Type"] == "text/event-stream"
    assert response.headers["Cache-Control"] == "no-cache"
    assert response.headers["X-Accel-Buffering"] == "no"
    assert response.headers["x-request-id"]


async def test_chat_streams_role_deltas_reason_done(server):
    response = await server.chat(stream=True)
    *chunks, done = events(await response.text())
    assert done == "[DONE]"
    parsed = [json.loads(chunk) for chunk in chunks]
    choices = [chunk["choices"][0] for chunk in parsed]
    assert choices[0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(choice["delta"].get("content", "") for choice in choices) == "Hello"
    assert [choice["finish_reason"] for choice in choices] == [None, None, None, "stop"]
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in parsed}) == 1
    assert all("usage" not in chunk for chunk in parsed)


async def test_usage_is_the_last_chunk_and_exact(server):
    response = await server.chat(stream=True, stream_options={"include_usage": True})
    last = json.loads(events(await response.text())[-2])
    assert last["choices"] == []
    assert last["usage"]["prompt_tokens"] == 5
    assert last["usage"]["completion_tokens"] == 3


@pytest.mark.parametrize("path", BODIES)
async def test_a_stream_says_the_same_as_one_piece(server, path):
    def text_of(answer: dict) -> str:
        if "response" in answer:
            return answer["response"]
        if not answer["choices"]:
            return ""
        choice = answer["choices"][0]
        if "text" in choice:
            return choice["text"]
        return (choice.get("delta") or choice.get("message", {})).get("content") or ""

    streamed = await server.post(path, BODIES[path])
    whole = await server.post(path, {**BODIES[path], "stream": False})
    *chunks, done = events(await streamed.text())
    assert done == "[DONE]"
    assert "".join(text_of(json.loads(chunk)) for chunk in chunks) == "Hello"
    assert text_of(await whole.json()) == "Hello"


async def test_headers_and_role_come_before_the_first_token(start):
    server = await start(silent)
    async with server.http.post(server.url + CHAT, json=BODIES[CHAT]) as response:
        assert response.status == 200
        assert b'"role":"assistant"' in await read_until(response, b"\n\n")


@pytest.mark.parametrize("path", ["/v1/completions", "/api/generate"])
async def test_headers_come_at_acceptance_even_with_nothing_to_say(start, path):
    server = await start(silent)
    async with asyncio.timeout(10):
        async with server.http.post(server.url + path, json=BODIES[path]) as response:
            assert response.status == 200


@pytest.mark.parametrize("path", BODIES)
async def test_comments_keep_a_silent_stream_alive(start, path):
    """The prompt is being processed: no token yet."""
    server = await start(silent, keep_alive=0.02)
    async with server.http.post(server.url + path, json=BODIES[path]) as response:
        await read_until(response, sse.COMMENT * 2)


async def test_no_comments_while_tokens_come(start):
    server = await start(
        lambda _: [Accepted(1), *[Delta(text="a"), 0.01] * 10, finished()], keep_alive=0.05
    )
    response = await server.chat(stream=True)
    assert ":" not in {line[:1] for line in (await response.text()).splitlines()}


async def test_comments_can_be_switched_off(start):
    server = await start(lambda _: [Accepted(1), 0.05, finished()], keep_alive=0)
    response = await server.chat(stream=True)
    assert "keep-alive" not in await response.text()


async def test_deltas_that_wait_together_go_out_together(start, monkeypatch):
    sent = []
    send = sse.EventStream.send

    async def spy(self, data):
        sent.append(data)
        await send(self, data)

    monkeypatch.setattr(sse.EventStream, "send", spy)
    step = [Accepted(1), Delta(text="a"), Delta(text="b"), Delta(text="c"), finished()]
    server = await start(lambda _: [0.01, step])
    response = await server.chat(stream=True)
    assert len(sent) == 1
    assert len(events(await response.text())) == 6


async def test_headers_and_the_opening_go_out_as_one_packet(start, monkeypatch):
    sent = []
    write = http_writer.StreamWriter._write

    def spy(self, data):
        sent.append(bytes(data))
        write(self, data)

    monkeypatch.setattr(http_writer.StreamWriter, "_write", spy)
    monkeypatch.setattr(
        http_writer.StreamWriter, "_writelines", lambda self, parts: spy(self, b"".join(parts))
    )
    server = await start(silent)
    async with server.http.post(server.url + CHAT, json=BODIES[CHAT]) as response:
        await read_until(response, b'"role":"assistant"')
    [first] = [data for data in sent if data.startswith(b"HTTP/1.1 200")]
    assert b'"role":"assistant"' in first


@pytest.mark.parametrize("path", BODIES)
async def test_an_error_in_mid_stream_ends_it_without_done(start, path):
    server = await start(lambda _: [Accepted(1), Delta(text="a"), 0.005, errors.DecodeError("no")])
    response = await server.post(path, BODIES[path])
    assert response.status == 200
    *_, last = events(await response.text())
    assert json.loads(last) == {
        "error": {"message": "no", "type": "server_error", "param": None, "code": "decode_failed"}
    }


async def test_an_error_comes_after_all_text_that_came_before_it(start):
    step = [Delta(text="a"), Delta(text="b")]
    server = await start(lambda _: [Accepted(1), step, errors.DecodeError("no")])
    response = await server.post("/api/generate", {"prompt": "x"})
    assert [json.loads(event).get("response") for event in events(await response.text())] == [
        "a",
        "b",
        None,
    ]


async def test_a_stream_that_the_engine_ends_out_of_turn_is_an_error(start):
    server = await start(lambda _: [Accepted(1), Accepted(1), errors.ShimmyError("lost")])
    response = await server.chat(stream=True)
    assert "internal_error" in events(await response.text())[-1]


async def test_a_killed_worker_ends_8_streams_cleanly_and_the_server_goes_on(start):
    server = await start(forever)
    streams = [asyncio.create_task(server.chat(stream=True)) for _ in range(8)]
    await server.engine.busy(8)
    await asyncio.sleep(0.02)
    server.engine.die()
    for response in await asyncio.gather(*streams):
        error = json.loads(events(await response.text())[-1])["error"]
        assert (error["code"], error["type"]) == ("engine_dead", "unavailable_error")
    assert server.pool.n_leases == 0
    server.engine.script = lambda _: [Accepted(1), Delta(text="back"), finished()]
    assert "back" in await (await server.chat()).text()


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("script", [forever, silent, lambda _: [asyncio.Event()]])
async def test_a_client_that_leaves_cancels_its_request(start, path, stream, script):
    server = await start(script)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(raw_request(path, {**BODIES[path], "stream": stream}))
    await server.engine.busy()
    if stream and script is forever:
        await reader.readuntil(b"word")
    left = asyncio.get_running_loop().time()
    writer.close()
    await server.engine.gone()
    assert asyncio.get_running_loop().time() - left < 1
    assert server.engine.n_active == 0
    assert server.pool.n_leases == 0


async def test_a_client_that_leaves_is_noted_in_the_log(start, caplog):
    caplog.set_level("INFO", "shimmy")
    server = await start(forever)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(raw_request(CHAT, BODIES[CHAT]))
    await reader.readuntil(b"word")
    writer.close()
    await server.engine.gone()
    async with asyncio.timeout(10):
        while not (found := [r for r in caplog.records if r.name == "shimmy.access"]):
            await asyncio.sleep(0.002)
    (record,) = found
    assert " 499 " in record.getMessage()
    assert "- tokens" not in record.getMessage()
    assert not [r for r in caplog.records if r.levelname == "ERROR"]


def stalled_client(port: int) -> socket.socket:
    """A client that asks for a stream and then reads nothing; with small buffers."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", port))
    sock.sendall(raw_request(CHAT, BODIES[CHAT]))
    return sock


def flood(request):
    if request.prompt.messages[0].content == "Hello?":
        return [Accepted(1), Delta(text="yes"), finished()]
    return [Accepted(1), *[[Delta(text="x" * 50_000)] * 20, 0.001] * 1000, finished()]


async def test_a_client_that_reads_nothing_does_not_block_others_and_is_dropped(start):
    server = await start(flood, write_timeout=0.3)
    with stalled_client(server.port):
        await server.engine.busy()
        answer = await server.chat(messages=[{"role": "user", "content": "Hello?"}])
        assert answer.status == 200
        await server.engine.gone()
    assert server.pool.n_leases == 0


async def test_a_comment_to_a_client_that_reads_nothing_does_not_hang(start, monkeypatch):
    """The comment itself may be what fills the buffer."""
    monkeypatch.setattr(sse, "COMMENT", b": " + b"x" * 4_000_000 + b"\n\n")
    server = await start(silent, keep_alive=0.02, write_timeout=0.1)
    with stalled_client(server.port):
        await server.engine.gone()


async def test_a_slow_client_gets_everything(start):
    n = 200
    server = await start(lambda _: [Accepted(1), *[Delta(text="é" * 10_000)] * n, finished()])
    async with server.http.post(server.url + CHAT, json=BODIES[CHAT]) as response:
        await asyncio.sleep(0.05)
        text = await response.text()
    assert text.count("é") == n * 10_000
    assert text.endswith("data: [DONE]\n\n")


async def test_many_streams_run_side_by_side(start):
    server = await start(lambda _: [Accepted(1), *[Delta(text="a"), 0.001] * 10, finished()])
    responses = await asyncio.gather(*[server.chat(stream=True) for _ in range(100)])
    assert {len(events(await response.text())) for response in responses} == {13}


async def test_the_connection_is_kept_for_the_next_request(server):
    for _ in range(2):
        response = await server.chat(stream=True)
        await response.text()
    assert sum(len(conns) for conns in server.http.connector._conns.values()) == 1


async def test_closing_the_pool_ends_streams_with_an_error(start):
    pool = FakePool()
    pool.engine.script = forever
    server = await start(pool=pool)
    asking = asyncio.create_task(server.chat(stream=True))
    await server.engine.busy()
    await asyncio.sleep(0.01)
    await pool.close()
    assert "engine_closed" in events(await (await asking).text())[-1]


async def test_an_http_1_0_client_gets_a_stream_that_ends_with_the_connection(server):
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(raw_request(CHAT, BODIES[CHAT]).replace(b"HTTP/1.1", b"HTTP/1.0"))
    async with asyncio.timeout(10):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert b"chunked" not in head.lower()
    assert events(body.decode())[-1] == "[DONE]"


async def test_requests_in_one_write_are_answered_in_turn(server):
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(raw_request(CHAT, BODIES[CHAT]) * 2)
    async with asyncio.timeout(10):
        for _ in range(2):
            await reader.readuntil(b"data: [DONE]\n\n")
    writer.close()
