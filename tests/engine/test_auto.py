"""`Engine.auto`: a server of this machine that has the model, else this process."""

from __future__ import annotations

import asyncio
import shutil
import socket
import time

import pytest

from shimmy.engine import Engine
from shimmy.engine.remote import search
from shimmy.errors import ConfigError, ShimmyError
from tests.engine.servers import shimmy_server, stub_server


@pytest.fixture(autouse=True)
def nobody_else(monkeypatch) -> None:
    """A shimmy that runs on this machine is not the test's."""
    monkeypatch.setattr(search, "PORTS", range(0))
    for name in ("SHIMMY_API_KEY", "SHIMMY_BIND_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


async def mode_of(model, **where) -> tuple[str, float]:
    """The mode that `auto` chose, and how long that took."""
    engine = Engine.auto(model, **where)
    began = time.monotonic()
    await engine.start()
    took = time.monotonic() - began
    await engine.close()
    return engine.mode, took


async def test_a_server_that_has_the_file_is_asked(options) -> None:
    async with shimmy_server(options) as url, Engine.auto(options, url=url) as engine:
        assert engine.mode == "connect"
        assert (await engine.chat("hi", max_tokens=2)).usage.completion_tokens <= 2


async def test_without_a_server_it_runs_here(options) -> None:
    async with Engine.auto(options) as engine:
        assert engine.mode == "solo"
        assert (await engine.chat("hi", max_tokens=2)).usage.completion_tokens <= 2


async def test_the_usual_ports_and_the_bind_address_are_looked_at(options, monkeypatch) -> None:
    async with shimmy_server(options) as url:
        port = int(url.rpartition(":")[2])
        monkeypatch.setattr(search, "PORTS", range(port, port + 1))
        assert (await mode_of(options))[0] == "connect"
        monkeypatch.setattr(search, "PORTS", range(0))
        monkeypatch.setenv("SHIMMY_BIND_ADDRESS", f"0.0.0.0:{port}")
        assert (await mode_of(options))[0] == "connect"


async def test_a_server_with_a_key_is_asked_with_it(options, monkeypatch) -> None:
    async with shimmy_server(options, api_keys=("secret",)) as url:
        assert (await mode_of(options, url=url))[0] == "solo"
        assert (await mode_of(options, url=url, api_key="secret"))[0] == "connect"
        monkeypatch.setenv("SHIMMY_API_KEY", "secret,other")
        assert (await mode_of(options, url=url))[0] == "connect"


async def test_a_server_that_lacks_the_model_is_not_used(options, tmp_path, tiny_gguf) -> None:
    other = tmp_path / "other.gguf"
    shutil.copy(tiny_gguf, other)
    same_name = tmp_path / "tiny.gguf"
    same_name.write_bytes(tiny_gguf.read_bytes() + b"more")
    async with shimmy_server(options) as url:
        assert (await mode_of(other, url=url))[0] == "solo"  # same size, other name
        assert (await mode_of(same_name, url=url))[0] == "solo"  # same name, other size


async def test_without_a_file_the_name_decides(options) -> None:
    async with shimmy_server(options) as url:
        assert (await mode_of("tiny", url=url))[0] == "connect"
        with pytest.raises(ShimmyError):
            async with Engine.auto("no-such-model", url=url):
                pass


OK = {"service": "shimmy", "status": "ok"}


@pytest.mark.parametrize(
    "replies",
    [
        {},
        {"health": {"status": "ok"}},  # another program
        {"health": OK},  # no list of models
        {"health": OK, "loaded": {"models": "none"}},
        {"health": OK, "loaded": {"models": [7, {"name": 3}]}},
        {"health": ["not json"]},
    ],
)
async def test_a_server_that_is_no_shimmy_is_passed_over(options, replies) -> None:
    async with stub_server(**replies) as stub:
        mode, took = await mode_of(options, url=stub.url)
    assert mode == "solo"
    assert took < 5


async def test_a_server_that_is_not_ready_is_passed_over(options) -> None:
    from aiohttp import web

    loading = web.json_response({"service": "shimmy", "status": "loading"}, status=503)
    async with stub_server(health=loading) as stub:
        assert (await mode_of(options, url=stub.url))[0] == "solo"


async def test_a_hung_port_costs_less_than_a_second(options, monkeypatch) -> None:
    with socket.socket() as hung:
        hung.bind(("127.0.0.1", 0))
        hung.listen()
        link = search.Search(
            options.model_path, url=f"http://127.0.0.1:{hung.getsockname()[1]}", api_key=None
        )
        began = time.monotonic()
        assert await link.find() is None
        # 0.8 s is its limit; the rest is for a busy machine
        assert 0.5 < time.monotonic() - began < 3
    assert search.SECONDS < 1


async def test_a_request_before_the_start_binds_it_to_this_process(options) -> None:
    async with shimmy_server(options) as url:
        engine = Engine.auto(options, url=url)
        early = asyncio.ensure_future(engine.chat("hi", max_tokens=2))
        await asyncio.sleep(0)
        async with engine:
            assert engine.mode == "solo"
            assert (await early).usage.completion_tokens <= 2


async def test_a_wrong_url_is_said_at_once(options) -> None:
    with pytest.raises(ConfigError):
        Engine.auto(options, url="nowhere")


async def test_shards_are_counted_together(tmp_path) -> None:
    for number, size in ((1, 10), (2, 20)):
        (tmp_path / f"m-0000{number}-of-00002.gguf").write_bytes(bytes(size))
    (tmp_path / "x-00001-of-00002.gguf").write_bytes(bytes(5))
    first = str(tmp_path / "m-00001-of-00002.gguf")
    assert search._size_of(first) == 30
    assert search._stem(first) == "m"
