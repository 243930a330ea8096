"""What a client gets when something is wrong before the answer begins: one rule each."""

from __future__ import annotations

import asyncio
import gzip
import logging

import pytest

from shimmy import errors
from shimmy.engine.types.event import Accepted, Delta
from tests.server.fakes import FakePool

CHAT = "/v1/chat/completions"
POSTS = [CHAT, "/v1/completions", "/api/generate"]
BODIES = {
    CHAT: {"messages": [{"role": "user", "content": "Hi"}]},
    "/v1/completions": {"prompt": "Hi"},
    "/api/generate": {"prompt": "Hi"},
}


async def error_of(response, status: int) -> dict:
    assert response.status == status, await response.text()
    assert response.content_type == "application/json"
    assert response.headers["x-request-id"]
    error = (await response.json())["error"]
    assert {"message", "type", "param", "code"} <= set(error)
    return error


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("body", [b"", b"{", b'{"a":NaN}', b"\xff", b'{"a":' + b"[" * 50_000])
async def test_malformed_json_is_400(server, path, body):
    error = await error_of(await server.post(path, data=body), 400)
    assert error["code"] == "invalid_json"


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("body", [b"[]", b'"x"', b"1", b"null"])
async def test_a_body_that_is_no_object_is_400(server, path, body):
    error = await error_of(await server.post(path, data=body), 400)
    assert (error["type"], error["param"]) == ("invalid_request_error", None)


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "x"])
async def test_the_content_type_does_not_matter(server, content_type):
    response = await server.post(
        CHAT,
        data=b'{"messages":[{"role":"user","content":"Hi"}]}',
        headers={"Content-Type": content_type},
    )
    assert response.status == 200


@pytest.mark.parametrize("path", POSTS)
async def test_a_body_too_large_is_413(start, path):
    server = await start(max_body_bytes=100)
    error = await error_of(await server.post(path, data=b" " * 101), 413)
    assert error["code"] == "request_too_large"


async def test_a_compressed_body_is_measured_unpacked(start):
    server = await start(max_body_bytes=1000)
    body = gzip.compress(b" " * 1_000_000)
    response = await server.post(CHAT, data=body, headers={"Content-Encoding": "gzip"})
    await error_of(response, 413)


async def test_a_compressed_body_is_unpacked(server):
    body = gzip.compress(b'{"messages":[{"role":"user","content":"Hi"}]}')
    response = await server.post(CHAT, data=body, headers={"Content-Encoding": "gzip"})
    assert response.status == 200


async def test_a_body_that_only_claims_to_be_compressed_is_400(server):
    response = await server.post(CHAT, data=b"{}", headers={"Content-Encoding": "gzip"})
    await error_of(response, 400)


@pytest.mark.parametrize("path", ["/nope", "/v1", "/v1/chat", "/v1/models/", "/%0a"])
async def test_an_unknown_path_is_404(server, path):
    error = await error_of(await server.get(path), 404)
    assert error["code"] in {"unknown_url", "model_not_found"}


@pytest.mark.parametrize("path", POSTS)
async def test_a_wrong_method_is_405_and_says_which_are_right(server, path):
    response = await server.get(path)
    error = await error_of(response, 405)
    assert error["code"] == "method_not_allowed"
    assert response.headers["Allow"] == "POST"


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("stream", [False, True])
async def test_an_unknown_model_is_404_and_lists_the_others(server, path, stream):
    body = {**BODIES[path], "model": "gpt-9", "stream": stream}
    error = await error_of(await server.post(path, body), 404)
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert "tiny" in error["message"]
    assert "org/big" in error["message"]


@pytest.mark.parametrize("model", ["org/big", "", None])
async def test_a_model_is_named_or_the_default(server, model):
    response = await server.chat(model=model)
    assert (await response.json())["model"] == (model or "tiny")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", POSTS)
async def test_an_error_before_acceptance_has_a_status(start, path, stream):
    server = await start(lambda _: [0.01, errors.ContextLengthError(500, 128)])
    error = await error_of(await server.post(path, {**BODIES[path], "stream": stream}), 400)
    assert error["code"] == "context_length_exceeded"
    assert error["type"] == "exceed_context_size_error"
    assert (error["n_prompt_tokens"], error["n_ctx"]) == (500, 128)
    assert error["param"] == ("messages" if path == CHAT else "prompt")


@pytest.mark.parametrize("path", POSTS)
async def test_a_field_the_engine_refuses_is_named(server, path):
    error = await error_of(await server.post(path, {**BODIES[path], "top_p": 7}), 400)
    assert error["param"] == "top_p"
    error = await error_of(await server.post(path, {**BODIES[path], "stop": [""]}), 400)
    assert error["param"] == "stop"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_full_queue_is_429_with_retry_after(start, stream):
    pool = FakePool(error=errors.OverloadedError("16 requests wait", retry_after=3))
    server = await start(pool=pool)
    response = await server.chat(stream=stream)
    await error_of(response, 429)
    assert response.headers["Retry-After"] == "3"


async def test_a_model_that_cannot_be_loaded_is_500_and_not_to_be_retried(start):
    server = await start(pool=FakePool(error=errors.ModelLoadError("bad magic")))
    response = await server.chat()
    error = await error_of(response, 500)
    assert error["code"] == "model_load_failed"
    assert response.headers["x-should-retry"] == "false"


async def test_a_loading_engine_is_503_with_retry_after(start):
    server = await start(pool=FakePool(error=errors.EngineLoadingError("loading")))
    response = await server.chat()
    await error_of(response, 503)
    assert response.headers["Retry-After"] == "1"


@pytest.mark.parametrize("events", [[], [Accepted(1), Delta(text="a")]])
async def test_a_worker_that_dies_under_a_request_in_one_piece_is_503(start, events):
    server = await start(lambda _: [*events, asyncio.Event()])
    asking = asyncio.create_task(server.chat())
    await server.engine.busy()
    server.engine.die()
    response = await asking
    error = await error_of(response, 503)
    assert error["code"] == "engine_dead"
    assert response.headers["Retry-After"] == "1"
    assert server.pool.n_leases == 0


async def test_an_unexpected_fault_is_500_and_only_the_log_knows_more(start, caplog):
    server = await start(pool=FakePool(error=ZeroDivisionError("secret")))
    response = await server.chat(messages=[{"role": "user", "content": "private words"}])
    error = await error_of(response, 500)
    request_id = response.headers["x-request-id"]
    assert request_id in error["message"]
    assert "secret" not in await response.text()
    record = next(r for r in caplog.records if r.levelno == logging.ERROR)
    assert request_id in record.getMessage()
    assert record.exc_info is not None
    assert "private words" not in caplog.text


async def test_an_engine_that_breaks_the_contract_is_500(start):
    server = await start(lambda _: [Delta(text="a")])
    await error_of(await server.chat(), 500)


async def test_the_id_of_the_client_is_kept_if_it_is_harmless(server):
    response = await server.get("/health", headers={"x-request-id": "abc-123"})
    assert response.headers["x-request-id"] == "abc-123"
    response = await server.get("/health", headers={"x-request-id": "a b " * 50})
    assert response.headers["x-request-id"].startswith("req_")


async def test_one_line_is_logged_and_no_prompt(server, caplog):
    caplog.set_level(logging.DEBUG, "shimmy")
    response = await server.chat(messages=[{"role": "user", "content": "private words"}])
    (record,) = [r for r in caplog.records if r.name == "shimmy.access"]
    line = record.getMessage()
    assert line.startswith("POST /v1/chat/completions 200 ")
    assert "3 tokens" in line
    assert response.headers["x-request-id"] in line
    assert record.levelno == logging.INFO
    assert "private words" not in caplog.text


async def test_a_path_cannot_forge_a_log_line(server, caplog):
    caplog.set_level(logging.DEBUG, "shimmy")
    await server.get("/a%0aPOST%20/x%20200")
    (record,) = [r for r in caplog.records if r.name == "shimmy.access"]
    assert "\n" not in record.getMessage()


async def test_probes_do_not_fill_the_log(server, caplog):
    caplog.set_level(logging.INFO, "shimmy")
    await server.get("/health")
    assert not caplog.records
