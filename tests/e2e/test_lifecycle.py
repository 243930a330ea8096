"""Models come and go in a real server while clients ask: nothing fails, nothing is left behind.

LIFECYCLE_ROUNDS=200 runs the whole of what 20 rounds show in a few seconds.
"""

from __future__ import annotations

import asyncio
import os
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from tests.support.served import Served, serve

ROUNDS = int(os.environ.get("LIFECYCLE_ROUNDS", "20"))
CLIENTS = 4
MODELS = ("shimmy-demo", "tiny")
MIB = 1024 * 1024


@pytest.fixture
def served(tmp_path: Path, tiny_gguf: Path) -> Iterator[Served]:
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "tiny.gguf").symlink_to(tiny_gguf)
    with serve(tmp_path, "--models-max", "2", "-np", "4", "-t", "1", "-c", "2048") as server:
        yield server


def workers(served: Served) -> list[psutil.Process]:
    return psutil.Process(served.process.pid).children(recursive=True)


def memory(served: Served) -> int:
    """Bytes of the server's own memory."""
    return int(psutil.Process(served.process.pid).memory_info().rss)


class Clients:
    """Ask both models again and again until the block is left; every answer must be right."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self.http = http
        self.n_answers = dict.fromkeys(MODELS, 0)
        self._stop = False

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self._ask(number)) for number in range(CLIENTS)]
        try:
            yield
        finally:
            self._stop = True
            await asyncio.gather(*tasks)

    async def _ask(self, number: int) -> None:
        while not self._stop:
            model = MODELS[number % 2]
            status, body = await post(
                self.http, "/v1/completions", model=model, prompt="Once", max_tokens=4
            )
            assert status == 200, body
            assert body["model"] == model
            self.n_answers[model] += 1
            number += 1


async def post(http: aiohttp.ClientSession, path: str, **body: Any) -> tuple[int, dict[str, Any]]:
    async with http.post(path, json=body) as response:
        return response.status, await response.json()


@pytest.mark.timeout(max(120, ROUNDS * 6))
async def test_models_that_come_and_go_under_load_leave_nothing_behind(served: Served) -> None:
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(served.url, timeout=timeout) as http:
        clients = Clients(http)
        levels = []
        async with clients.asking():
            for number in range(ROUNDS):
                coming, going = MODELS[number % 2], MODELS[1 - number % 2]
                status, body = await post(http, f"/api/models/{coming}/load")
                assert (status, body["status"]) == (200, "loaded"), body
                status, body = await post(http, f"/api/models/{going}/unload")
                assert (status, body["status"]) == (200, "unloaded"), body
                there = workers(served)
                assert len(there) <= 2
                if number >= ROUNDS // 4:  # caches and pools have their size by then
                    levels.append(memory(served))
        assert min(clients.n_answers.values()) >= ROUNDS / 2
        for model in MODELS:
            await post(http, f"/api/models/{model}/unload")
        status, body = await post(http, "/v1/completions", prompt="Once", max_tokens=1)
        assert status == 200, body
        for model in MODELS:
            await post(http, f"/api/models/{model}/unload")
    assert workers(served) == []  # no worker, and no zombie of one
    quarter = max(1, len(levels) // 4)
    early, late = max(levels[:quarter]), min(levels[-quarter:])
    assert late < early + 8 * MIB, f"{early / MIB:.1f} MiB became {late / MIB:.1f} MiB"
    print(f"{ROUNDS} rounds, {clients.n_answers}, {early / MIB:.1f} then {late / MIB:.1f} MiB")


async def test_an_alias_is_switched_while_200_requests_run(served: Served) -> None:
    timeout = aiohttp.ClientTimeout(total=60)
    switched: float | None = None

    async with aiohttp.ClientSession(served.url, timeout=timeout) as http:

        async def ask(number: int) -> tuple[float, dict[str, Any]]:
            await asyncio.sleep(number * 0.01)
            sent = time.monotonic()
            question = [{"role": "user", "content": "What is shimmy?"}]
            status, body = await post(
                http,
                "/v1/chat/completions",
                model="gpt",
                messages=question,
                temperature=0,
                max_tokens=4,
            )
            assert status == 200, body
            return sent, body

        assert (await post(http, "/api/aliases/gpt", model="shimmy-demo"))[0] == 200
        asking = [asyncio.create_task(ask(number)) for number in range(200)]
        await asyncio.sleep(0.8)
        began = time.monotonic()
        status, body = await post(http, "/api/aliases/gpt", model="tiny")
        assert (status, body) == (200, {"alias": "gpt", "model": "tiny"})
        switched = time.monotonic()
        answers = await asyncio.gather(*asking)

    said = {model: {text(b) for _, b in answers if b["model"] == model} for model in MODELS}
    assert len(said["shimmy-demo"]) == 1
    assert all("himmy" in answer for answer in said["shimmy-demo"])
    assert said["tiny"]
    assert not any("himmy" in answer for answer in said["tiny"])
    assert all(b["model"] == "shimmy-demo" for sent, b in answers if sent < began - 1)
    assert all(b["model"] == "tiny" for sent, b in answers if sent > switched)


def text(body: dict[str, Any]) -> str:
    return str(body["choices"][0]["message"]["content"])


async def test_a_model_whose_load_nobody_waits_for_any_more_leaves_no_worker(
    served: Served,
) -> None:
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(served.url, timeout=timeout) as http:
        await post(http, "/api/models/shimmy-demo/unload")
        for pause in (0.0, 0.01, 0.05, 0.1, 0.2, 0.4):
            asking = asyncio.create_task(
                post(http, "/v1/completions", model="tiny", prompt="x", max_tokens=1)
            )
            await asyncio.sleep(pause)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            await asyncio.sleep(0.05)
        await post(http, "/api/models/tiny/unload")
        async with http.get("/api/status") as response:
            assert (await response.json())["queued"] == 0
    deadline = time.monotonic() + 10
    while workers(served) and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    assert workers(served) == []


async def test_a_timeout_covers_the_wait_for_another_models_unload(
    tmp_path: Path, tiny_gguf: Path
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "tiny.gguf").symlink_to(tiny_gguf)
    body = {"prompt": "Once", "temperature": 0, "ignore_eos": True}
    with serve(tmp_path, "--models-max", "1", "-t", "1", "-c", "2048", "--context-shift") as served:
        async with aiohttp.ClientSession(served.url) as http:
            long = {**body, "model": "tiny", "stream": True, "max_tokens": 10**6, "timeout": 20}
            async with http.post("/v1/completions", json=long) as stream:
                await stream.content.readany()
                began = time.monotonic()
                status, said = await post(
                    http, "/v1/completions", **body, model="shimmy-demo", timeout=0.5
                )
                took = time.monotonic() - began
                assert (status, said["error"]["code"]) == (503, "deadline_exceeded"), said
                assert 0.5 <= took < 5
                assert await stream.content.readany(), "the other model goes on"
            status, said = await post(
                http, "/v1/completions", **body, model="shimmy-demo", timeout=20, max_tokens=2
            )
            assert status == 200, said


def test_a_model_is_unloaded_when_idle_and_health_stays_200(tmp_path: Path) -> None:
    with serve(tmp_path, "--idle-unload", "300ms", "-t", "1") as served:
        deadline = time.monotonic() + 20
        while workers(served) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert workers(served) == []
        assert served.get("/health")[0] == 200
        status, _ = served.post("/v1/completions", {"prompt": "Once", "max_tokens": 2})
        assert status == 200


def test_an_open_stream_of_events_does_not_keep_the_server_from_ending(tmp_path: Path) -> None:
    with serve(tmp_path, "-t", "1") as served:
        stream = urllib.request.urlopen(served.url + "/api/models/events", timeout=60)
        assert b"shimmy-demo" in stream.readline()
        began = time.monotonic()
    # 30 s is what running requests get
    assert time.monotonic() - began < 20
    stream.close()
