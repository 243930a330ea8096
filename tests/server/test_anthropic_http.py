"""/v1/messages over HTTP: headers, keys, errors in Anthropic's form, counting."""

from __future__ import annotations

import asyncio
import json

import pytest

from shimmy import errors
from shimmy.engine.types.event import Accepted, Delta
from tests.server.fakes import FakePool, finished

MESSAGES = "/v1/messages"
COUNT = "/v1/messages/count_tokens"
BODY = {"model": "tiny", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi you"}]}
STREAM = {**BODY, "stream": True}


async def error_of(response, status: int) -> dict:
    assert response.status == status, await response.text()
    body = await response.json()
    assert body["type"] == "error"
    assert body["request_id"] == response.headers["request-id"]
    return body["error"]


async def test_a_message(server):
    response = await server.post(MESSAGES, BODY)
    body = await response.json()
    assert body["id"].startswith("msg_")
    assert body["content"] == [{"type": "text", "text": "Hello"}]
    assert body["stop_reason"] == "end_turn"
    assert body["usage"]["input_tokens"] == 5


async def test_message_start_counts_the_prompt(server):
    text = await (await server.post(MESSAGES, STREAM)).text()
    start = json.loads(text.split("\n")[1].removeprefix("data: "))
    assert start["message"]["usage"]["input_tokens"] == 5


async def test_the_beta_address_is_the_same(server):
    assert (await server.post(MESSAGES + "?beta=true", BODY)).status == 200


async def test_every_answer_has_a_request_id(server):
    for response in (await server.post(MESSAGES, BODY), await server.get("/health")):
        assert response.headers["request-id"] == response.headers["x-request-id"]


@pytest.mark.parametrize("headers", [{"x-api-key": "k"}, {"Authorization": "Bearer k"}])
async def test_both_auth_headers_are_taken(start, headers):
    server = await start(api_keys=("k",))
    headers = {**headers, "anthropic-version": "2023-06-01"}
    assert (await server.post(MESSAGES, BODY, headers=headers)).status == 200


@pytest.mark.parametrize("headers", [{}, {"x-api-key": "wrong"}])
@pytest.mark.parametrize("path", [MESSAGES, COUNT])
async def test_401_is_an_authentication_error(start, headers, path):
    server = await start(api_keys=("k",))
    error = await error_of(await server.post(path, BODY, headers=headers), 401)
    assert error["type"] == "authentication_error"


async def test_403_is_a_permission_error(server):
    response = await server.post(MESSAGES, BODY, headers={"Host": "evil.example"})
    assert (await error_of(response, 403))["type"] == "permission_error"


async def test_404_is_a_not_found_error_that_lists_the_models(server):
    error = await error_of(await server.post(MESSAGES, {**BODY, "model": "claude"}), 404)
    assert error["type"] == "not_found_error"
    assert "tiny" in error["message"]


async def test_an_unknown_path_below_messages_is_404_in_the_same_form(server):
    error = await error_of(await server.post(MESSAGES + "/batches", BODY), 404)
    assert error["type"] == "not_found_error"


async def test_405_is_an_invalid_request_error(server):
    response = await server.get(MESSAGES)
    assert (await error_of(response, 405))["type"] == "invalid_request_error"
    assert response.headers["Allow"] == "POST"


async def test_other_paths_answer_anthropic_clients_in_their_form(server):
    headers = {"anthropic-version": "2023-06-01"}
    error = await error_of(await server.get("/v1/nothing", headers=headers), 404)
    assert error["type"] == "not_found_error"


async def test_413_is_request_too_large(start):
    server = await start(max_body_bytes=100)
    error = await error_of(await server.post(MESSAGES, data=b" " * 101), 413)
    assert error["type"] == "request_too_large"


@pytest.mark.parametrize("path", [MESSAGES, COUNT])
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"model":1}', b'{"a":' + b"[" * 50_000])
async def test_400_is_an_invalid_request_error(server, path, body):
    error = await error_of(await server.post(path, data=body), 400)
    assert error["type"] == "invalid_request_error"
    assert error["message"]


@pytest.mark.parametrize("stream", [False, True])
async def test_429_is_a_rate_limit_error_with_retry_after(start, stream):
    pool = FakePool(error=errors.OverloadedError("16 requests wait", retry_after=3))
    server = await start(pool=pool)
    response = await server.post(MESSAGES, {**BODY, "stream": stream})
    assert (await error_of(response, 429))["type"] == "rate_limit_error"
    assert response.headers["Retry-After"] == "3"


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (errors.ModelLoadError("bad magic"), 500, "api_error"),
        (ZeroDivisionError("x"), 500, "api_error"),
        (errors.EngineLoadingError("loading"), 503, "overloaded_error"),
    ],
)
async def test_faults_of_the_server_have_types_too(start, error, status, kind):
    server = await start(pool=FakePool(error=error))
    assert (await error_of(await server.post(MESSAGES, BODY), status))["type"] == kind


@pytest.mark.parametrize("stream", [False, True])
async def test_a_prompt_too_long_is_400_in_the_words_that_agents_know(start, stream):
    server = await start(lambda _: [errors.ContextLengthError(500, 128)])
    error = await error_of(await server.post(MESSAGES, {**BODY, "stream": stream}), 400)
    assert error["type"] == "invalid_request_error"
    assert error["message"].startswith("prompt is too long: 500 tokens > 128 maximum")


async def test_an_error_in_mid_stream_is_an_error_event_and_the_last(start):
    server = await start(lambda _: [Accepted(1), Delta(text="a"), errors.EngineDeadError("died")])
    response = await server.post(MESSAGES, STREAM)
    *_, last = (await response.text()).removesuffix("\n\n").split("\n\n")
    name, data = last.split("\n")
    assert name == "event: error"
    body = json.loads(data.removeprefix("data: "))
    assert body["error"] == {"type": "overloaded_error", "message": "died"}
    assert body["request_id"] == response.headers["request-id"]


async def test_comments_keep_a_silent_stream_alive(start):
    server = await start(lambda _: [Accepted(1), 0.1, finished()], keep_alive=0.02)
    assert ": keep-alive\n\n" in await (await server.post(MESSAGES, STREAM)).text()


async def test_a_client_that_leaves_cancels_its_message(start):
    server = await start(lambda _: [Accepted(1), asyncio.Event()])
    async with server.http.post(server.url + MESSAGES, json=STREAM) as response:
        await response.content.readany()
        response.close()
    await server.engine.gone()


async def test_counting_tokens_renders_the_prompt_and_generates_nothing(server):
    body = {"model": "tiny", "messages": BODY["messages"], "system": "Be brief"}
    response = await server.post(COUNT, body)
    assert await response.json() == {"input_tokens": 4}
    assert not server.engine.requests
    (rendered,) = server.engine.rendered
    assert [message.role for message in rendered.messages] == ["system", "user"]
    assert server.pool.n_leases == 0
