"""More than fits, and readers that do not read: the server stays itself."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator

import httpx
import openai
import psutil
import pytest

from tests.e2e.test_concurrency import NEAR, QUESTIONS, answer, gap
from tests.support.served import Served, serve

ROWS = 256


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Every sequence that llama.cpp has is a row."""
    with serve(tmp_path_factory.mktemp("home"), "-np", str(ROWS)) as server:
        yield server


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """No answer ends by itself."""
    home = tmp_path_factory.mktemp("home")
    with serve(home, "-np", "4", "-c", "2048", "--context-shift") as server:
        yield server


async def test_256_requests_at_once_are_all_answered_and_right(wide: Served) -> None:
    asked = [QUESTIONS[i % len(QUESTIONS)] for i in range(ROWS)]
    limits = openai.DefaultAsyncHttpxClient(limits=httpx.Limits(max_connections=None), timeout=120)
    async with openai.AsyncOpenAI(
        base_url=wide.url + "/v1", api_key="none", max_retries=0, http_client=limits
    ) as client:
        alone = {question: await answer(client, question) for question in QUESTIONS}
        together = await asyncio.gather(*(answer(client, question) for question in asked))
    different = {
        (question, text)
        for question, text in zip(asked, together, strict=True)
        if text != alone[question]
    }
    assert all(together)
    assert len({question for question, _ in different}) <= 3
    for question, text in different:
        assert gap(question, alone[question], text) < NEAR


def deaf(served: Served, body: dict[str, object]) -> socket.socket:
    """Send a request and read no byte of its answer."""
    host, port = served.url.removeprefix("http://").split(":")
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect((host, int(port)))
    data = json.dumps(body).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(data)}\r\n\r\n"
    client.sendall(head.encode() + data)
    return client


def memory(served: Served) -> int:
    """Return what server and worker hold, in bytes."""
    return sum(
        psutil.Process(pid).memory_info().rss for pid in (served.process.pid, served.worker_pid())
    )


def active(served: Served) -> int:
    return int(served.get("/health")[1]["requests_active"])


def wait_active(served: Served, n: int) -> None:
    end = time.monotonic() + 20
    while active(served) != n:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_readers_that_stop_cost_a_few_megabytes_and_nobody_else_notices(endless: Served) -> None:
    body = {"prompt": "Hello", "stream": True, "ignore_eos": True, "max_tokens": 10**9}
    before = memory(endless)
    readers = [deaf(endless, body) for _ in range(3)]
    try:
        wait_active(endless, 3)
        end = time.monotonic() + 6
        n_answered = 0
        while time.monotonic() < end:
            status, _ = endless.post("/v1/completions", {"prompt": "Hello", "max_tokens": 2})
            assert status == 200
            n_answered += 1
        assert n_answered > 10
        assert memory(endless) - before < 64 << 20
        # still there: who reads slowly is waited for
        assert active(endless) == 3
    finally:
        for reader in readers:
            reader.close()
    wait_active(endless, 0)
