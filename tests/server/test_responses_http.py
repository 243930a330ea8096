"""/v1/responses over HTTP: turns, looking up, deleting, pages of items, counting, errors."""

from __future__ import annotations

import asyncio
import json

import pytest

from shimmy import errors
from shimmy.engine.types.event import Accepted, Delta
from tests.server.fakes import FakePool, finished

RESPONSES = "/v1/responses"
COUNT = "/v1/responses/input_tokens"
BODY = {"model": "tiny", "input": "Hi you"}
STREAM = {**BODY, "stream": True}


async def error_of(response, status: int) -> dict:
    assert response.status == status, await response.text()
    error = (await response.json())["error"]
    assert set(error) >= {"message", "type", "param", "code"}
    return error


async def created(server, **fields) -> dict:
    response = await server.post(RESPONSES, {**BODY, **fields})
    assert response.status == 200, await response.text()
    return await response.json()


def last_event(text: str) -> dict:
    return json.loads(text.removesuffix("\n\n").split("\n")[-1].removeprefix("data: "))


async def test_a_response(server):
    body = await created(server)
    assert body["id"].startswith("resp_")
    assert body["output"][0]["content"][0]["text"] == "Hello"
    assert (body["status"], body["model"]) == ("completed", "tiny")


async def test_a_stream_has_names_numbers_and_no_done(server):
    text = await (await server.post(RESPONSES, STREAM)).text()
    assert text.startswith("event: response.created\ndata: ")
    assert "[DONE]" not in text
    assert last_event(text)["type"] == "response.completed"


async def test_a_turn_continues_the_one_before(server):
    first = await created(server)
    second = await created(server, input="And?", previous_response_id=first["id"])
    assert second["previous_response_id"] == first["id"]
    await created(server, input="So?", previous_response_id=second["id"])
    messages = server.engine.requests[-1].prompt.messages
    assert [(m.role, m.content) for m in messages] == [
        ("user", "Hi you"),
        ("assistant", "Hello"),
        ("user", "And?"),
        ("assistant", "Hello"),
        ("user", "So?"),
    ]


async def test_a_streamed_turn_can_be_continued(server):
    text = await (await server.post(RESPONSES, STREAM)).text()
    await created(server, previous_response_id=last_event(text)["response"]["id"])
    assert len(server.engine.requests[-1].prompt.messages) == 3


async def test_a_response_can_be_looked_up_and_deleted(server):
    body = await created(server)
    path = f"{RESPONSES}/{body['id']}"
    assert await (await server.get(path)).json() == body
    async with server.http.delete(server.url + path) as response:
        assert await response.json() == {"id": body["id"], "object": "response", "deleted": True}
    error = await error_of(await server.get(path), 404)
    assert (error["code"], error["param"]) == ("response_not_found", "id")
    error = await error_of(
        await server.post(RESPONSES, {**BODY, "previous_response_id": body["id"]}), 400
    )
    assert error["code"] == "previous_response_not_found"


async def test_what_is_not_to_be_stored_is_not(server):
    body = await created(server, store=False)
    await error_of(await server.get(f"{RESPONSES}/{body['id']}"), 404)


async def test_what_broke_off_is_kept_as_failed(start):
    server = await start(lambda _: [Accepted(1), Delta(text="a"), errors.EngineDeadError("died")])
    text = await (await server.post(RESPONSES, STREAM)).text()
    response = last_event(text)["response"]
    found = await (await server.get(f"{RESPONSES}/{response['id']}")).json()
    assert found == response
    assert found["status"] == "failed"


@pytest.mark.parametrize("suffix", ["", "/input_items"])
async def test_an_unknown_response_is_404(server, suffix):
    await error_of(await server.get(f"{RESPONSES}/resp_x{suffix}"), 404)


async def test_nothing_can_be_cancelled_or_streamed_again(server):
    path = f"{RESPONSES}/{(await created(server))['id']}"
    error = await error_of(await server.post(path + "/cancel"), 400)
    assert "background" in error["message"]
    assert (await error_of(await server.get(path + "?stream=true"), 400))["param"] == "stream"
    await error_of(await server.post(f"{RESPONSES}/resp_x/cancel"), 404)


async def items_of(server, response_id: str, query: str = "") -> dict:
    response = await server.get(f"{RESPONSES}/{response_id}/input_items{query}")
    assert response.status == 200, await response.text()
    return await response.json()


async def test_input_items_are_all_that_was_read_in_pages(server):
    first = await created(server)
    body = await created(server, input="And?", previous_response_id=first["id"])
    page = await items_of(server, body["id"], "?order=asc")
    texts = [item["content"][0]["text"] for item in page["data"]]
    assert texts == ["Hi you", "Hello", "And?"]
    assert page["data"][0]["content"] == [{"type": "input_text", "text": "Hi you"}]
    assert (page["object"], page["has_more"]) == ("list", False)
    ids = [item["id"] for item in page["data"]]
    assert (page["first_id"], page["last_id"]) == (ids[0], ids[-1])
    newest = await items_of(server, body["id"], "?limit=2")
    assert [item["id"] for item in newest["data"]] == ids[:0:-1]
    assert newest["has_more"] is True
    rest = await items_of(server, body["id"], f"?after={newest['last_id']}")
    assert [item["id"] for item in rest["data"]] == ids[:1]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("?limit=0", "limit"),
        ("?limit=101", "limit"),
        ("?limit=x", "limit"),
        ("?limit=" + "9" * 5000, "limit"),
        ("?order=up", "order"),
        ("?after=x", "after"),
    ],
)
async def test_a_bad_page_is_400_and_named(server, query, param):
    path = f"{RESPONSES}/{(await created(server))['id']}/input_items{query}"
    assert (await error_of(await server.get(path), 400))["param"] == param


async def test_two_servers_keep_nothing_of_each_other(start):
    one, other = await start(), await start()
    body = await created(one)
    await error_of(await other.get(f"{RESPONSES}/{body['id']}"), 404)


async def test_counting_tokens_renders_the_prompt_and_generates_nothing(server):
    first = await created(server)
    body = {"input": "And?", "instructions": "Be brief", "previous_response_id": first["id"]}
    response = await server.post(COUNT, body)
    assert await response.json() == {"object": "response.input_tokens", "input_tokens": 6}
    assert len(server.engine.requests) == 1


@pytest.mark.parametrize("path", [RESPONSES, COUNT])
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"model":1}', b'{"a":' + b"[" * 50_000])
async def test_a_bad_body_is_400(server, path, body):
    assert (await error_of(await server.post(path, data=body), 400))["message"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_prompt_too_long_is_400_with_both_spellings(start, stream):
    server = await start(lambda _: [errors.ContextLengthError(500, 128)])
    error = await error_of(await server.post(RESPONSES, {**BODY, "stream": stream}), 400)
    assert (error["code"], error["param"]) == ("context_length_exceeded", "input")
    assert error["type"] == "exceed_context_size_error"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_full_queue_is_429_with_retry_after(start, stream):
    pool = FakePool(error=errors.OverloadedError("16 requests wait", retry_after=3))
    server = await start(pool=pool)
    response = await server.post(RESPONSES, {**BODY, "stream": stream})
    await error_of(response, 429)
    assert response.headers["Retry-After"] == "3"


async def test_a_key_is_asked_for_everywhere(start):
    server = await start(api_keys=("k",))
    for path in (RESPONSES + "/resp_x", RESPONSES + "/resp_x/input_items"):
        await error_of(await server.get(path), 401)
    for path in (RESPONSES, COUNT, RESPONSES + "/resp_x/cancel"):
        await error_of(await server.post(path, BODY), 401)


async def test_a_page_of_another_origin_may_delete_if_it_is_allowed(start):
    server = await start(cors_origins=("https://chat.example",))
    headers = {"Origin": "https://chat.example", "Access-Control-Request-Method": "DELETE"}
    async with server.http.options(server.url + RESPONSES + "/x", headers=headers) as response:
        assert "DELETE" in response.headers["Access-Control-Allow-Methods"]


async def test_comments_keep_a_silent_stream_alive(start):
    server = await start(lambda _: [Accepted(1), 0.1, finished()], keep_alive=0.02)
    assert ": keep-alive\n\n" in await (await server.post(RESPONSES, STREAM)).text()


async def test_a_client_that_leaves_cancels_its_response(start):
    server = await start(lambda _: [Accepted(1), asyncio.Event()])
    async with server.http.post(server.url + RESPONSES, json=STREAM) as response:
        await response.content.readany()
        response.close()
    await server.engine.gone()
