"""Who may ask."""

from __future__ import annotations

import pytest

from shimmy.server.keys import ON_LOOPBACK
from tests.server.fakes import FakePool

CHAT = "/v1/chat/completions"
BODY = {"messages": [{"role": "user", "content": "Hi"}]}
PREFLIGHT = {
    "Origin": "https://chat.example",
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,x-stainless-os",
}


async def code_of(response) -> str:
    return (await response.json())["error"]["code"]


# host


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:11435", "LOCALHOST:1", "localhost.", "127.0.0.1", "127.0.0.1:99",
     "[::1]", "[::1]:11435", "127.1.2.3:80"],
)  # fmt: skip
async def test_a_name_of_this_machine_is_answered(server, host):
    assert (await server.get("/v1/models", headers={"Host": host})).status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:11435", "localhost.evil.example", "127.0.0.1.evil.example",
     "0.0.0.0:11435", "[2001:db8::1]:80", ""],
)  # fmt: skip
async def test_another_name_is_refused_with_advice(server, host):
    response = await server.get("/v1/models", headers={"Host": host})
    assert response.status == 403
    assert await code_of(response) == "forbidden_host"
    assert "SHIMMY_ALLOWED_HOSTS" in await response.text()


async def test_an_allowed_name_is_answered(start):
    server = await start(allowed_hosts=("Box.lan",))
    assert (await server.get("/v1/models", headers={"Host": "box.LAN:80"})).status == 200
    assert (await server.get("/v1/models", headers={"Host": "other.lan"})).status == 403


async def test_all_names_can_be_allowed(start):
    server = await start(allowed_hosts=("*",))
    assert (await server.get("/v1/models", headers={"Host": "any.example"})).status == 200


# cross-site


async def test_a_foreign_page_cannot_post(server):
    headers = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    response = await server.post(CHAT, BODY, headers=headers)
    assert response.status == 403
    assert await code_of(response) == "forbidden_origin"
    assert not server.engine.requests


@pytest.mark.parametrize("site", ["same-origin", "same-site", "none"])
async def test_our_own_page_can_post(server, site):
    response = await server.post(CHAT, BODY, headers={"Sec-Fetch-Site": site})
    assert response.status == 200


async def test_a_configured_page_can_post(start):
    server = await start(cors_origins=("https://chat.example",))
    headers = {"Origin": "https://chat.example", "Sec-Fetch-Site": "cross-site"}
    assert (await server.post(CHAT, BODY, headers=headers)).status == 200


# CORS


async def test_without_origins_there_are_no_cors_headers(server):
    response = await server.post(CHAT, BODY, headers={"Origin": "https://chat.example"})
    assert not [name for name in response.headers if name.startswith("Access-Control")]
    preflight = await server.http.options(server.url + CHAT, headers=PREFLIGHT)
    assert preflight.status == 405
    assert not [name for name in preflight.headers if name.startswith("Access-Control")]


@pytest.mark.parametrize("origins", [("https://chat.example",), ("*",)])
async def test_a_preflight_of_a_configured_origin(start, origins):
    server = await start(cors_origins=origins, api_keys=("k",))
    response = await server.http.options(server.url + CHAT, headers=PREFLIGHT)
    assert response.status == 204
    assert response.headers["Access-Control-Allow-Origin"] == "https://chat.example"
    assert "POST" in response.headers["Access-Control-Allow-Methods"]
    assert response.headers["Access-Control-Allow-Headers"] == "authorization,x-stainless-os"
    assert response.headers["Vary"] == "Origin"


@pytest.mark.parametrize("stream", [False, True])
async def test_answers_to_a_configured_origin_may_be_read(start, stream):
    server = await start(cors_origins=("https://chat.example",))
    headers = {"Origin": "https://chat.example"}
    response = await server.post(CHAT, {**BODY, "stream": stream}, headers=headers)
    assert response.headers["Access-Control-Allow-Origin"] == "https://chat.example"


async def test_errors_to_a_configured_origin_may_be_read(start):
    server = await start(cors_origins=("https://chat.example",))
    response = await server.get("/nope", headers={"Origin": "https://chat.example"})
    assert response.headers["Access-Control-Allow-Origin"] == "https://chat.example"


async def test_another_origin_gets_no_cors_headers(start):
    server = await start(cors_origins=("https://chat.example",))
    response = await server.get("/v1/models", headers={"Origin": "https://evil.example"})
    assert "Access-Control-Allow-Origin" not in response.headers


# keys


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer two"},
        {"Authorization": "bearer  two "},
        {"x-api-key": "one"},
    ],
)
async def test_a_right_key_opens(start, headers):
    server = await start(api_keys=("one", "two"))
    assert (await server.post(CHAT, BODY, headers=headers)).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer three"},
        {"Authorization": "Bearer on"},
        {"Authorization": "Basic b25l"},
        {"Authorization": "one"},
        {"x-api-key": ""},
        {"x-api-key": "onetwo"},
        {"x-api-key": "schl\u00fcssel"},
    ],
)
@pytest.mark.parametrize("path", [CHAT, "/nope"])
async def test_a_wrong_key_does_not(start, headers, path):
    server = await start(api_keys=("one", "two"))
    response = await server.post(path, BODY, headers=headers)
    assert response.status == 401
    assert await code_of(response) == "invalid_api_key"
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert not server.engine.requests


async def test_probes_need_no_key(start):
    server = await start(api_keys=("one",))
    assert (await server.get("/health")).status == 200
    assert (await server.get("/v1/models")).status == 401


def test_an_app_is_careful_until_it_knows_its_socket():
    from shimmy.server import make_app

    assert make_app(FakePool())[ON_LOOPBACK] is True
