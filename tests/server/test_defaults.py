"""A model's own settings reach its requests, through every dialect; a body's word wins."""

from __future__ import annotations

import msgspec
import pytest

from shimmy.engine.types.prompt import ChatPrompt
from tests.server.fakes import Entry, FakeEngine, FakePool

OLLAMA = {"temperature": 0.25, "num_predict": 12, "stop": "<end>"}
HELLO = [{"role": "user", "content": "hi"}]
BODIES = {
    "/v1/chat/completions": {"messages": HELLO},
    "/v1/completions": {"prompt": "hi"},
    "/api/generate": {"prompt": "hi", "stream": False},
    "/v1/responses": {"input": "hi"},
}


@pytest.fixture
def pool():
    pool = FakePool(FakeEngine())
    entry = Entry(name="tiny", system="Be brief.", parameters=OLLAMA)
    pool.registry._entries = [entry]
    return pool


@pytest.mark.parametrize(("path", "body"), BODIES.items(), ids=BODIES.keys())
async def test_a_models_settings_are_its_requests_defaults(start, pool, path, body):
    server = await start(pool=pool)
    for stream in (False, True):
        await (await server.post(path, body | {"stream": stream})).read()
        asked = pool.engine.requests[-1]
        assert (asked.sampling.temperature, asked.max_tokens) == (0.25, 12)
        assert asked.stop == ["<end>"]
        if isinstance(asked.prompt, ChatPrompt):
            assert asked.prompt.messages[0].content == "Be brief."


async def test_what_a_body_says_wins(start, pool):
    server = await start(pool=pool)
    body = {"prompt": "hi", "temperature": 1.0, "max_tokens": 16, "stop": ["x"]}
    await (await server.post("/v1/completions", body)).read()
    asked = pool.engine.requests[-1]
    assert (asked.sampling.temperature, asked.max_tokens, asked.stop) == (1.0, 16, ["x"])


@pytest.mark.parametrize(("n_keep", "kept"), [(-1, 2**31 - 1), (0, 0), (5, 5), (None, 0)])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/api/generate"])
async def test_n_keep_is_llama_servers(start, path, n_keep, kept):
    pool = FakePool(FakeEngine())
    server = await start(pool=pool)
    await (await server.post(path, BODIES[path] | {"n_keep": n_keep})).read()
    assert pool.engine.requests[-1].n_keep == kept


async def test_an_n_keep_that_cannot_be_is_refused_by_name(start):
    server = await start()
    answer = await server.post("/v1/completions", {"prompt": "hi", "n_keep": -2})
    assert answer.status == 400
    assert msgspec.json.decode(await answer.read())["error"]["param"] == "n_keep"
