"""/openapi.json and /docs say what the server does."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from shimmy.server.app import make_app
from shimmy.server.dialects.chat_body import ChatBody
from shimmy.server.dialects.completion_request import CompletionBody
from shimmy.server.dialects.embeddings import EmbeddingBody
from shimmy.server.dialects.infill import InfillBody
from shimmy.server.dialects.rerank import RerankBody
from shimmy.server.dialects.sampling import SamplingFields
from shimmy.server.dialects.tokens import TokenizeBody
from shimmy.server.health import ENDPOINTS
from shimmy.server.openapi import OPERATIONS, ErrorBody, document
from tests.server.fakes import FakePool

DOCUMENT = json.loads(document())


def inner(value):
    yield value
    for each in value.values() if isinstance(value, dict) else value:
        if isinstance(each, dict | list):
            yield from inner(each)


def test_every_endpoint_that_takes_a_body_is_described():
    described = {(operation.method, operation.path) for operation in OPERATIONS}
    taken = {
        (route.method.lower(), route.resource.canonical)
        for route in make_app(FakePool()).router.routes()
        if route.resource is not None and route.resource.canonical in ENDPOINTS.values()
    }
    assert not {path for method, path in taken - described if method == "post"}


def test_every_reference_leads_somewhere():
    refs = {
        each["$ref"].removeprefix("#/components/schemas/")
        for each in inner(DOCUMENT)
        if isinstance(each, dict) and "$ref" in each
    }
    assert refs <= set(DOCUMENT["components"]["schemas"])


def test_it_has_no_words_that_openapi_3_0_does_not_know():
    for each in inner(DOCUMENT["components"]["schemas"]):
        if isinstance(each, dict) and "type" in each and isinstance(each["type"], str):
            assert each["type"] != "null"
            assert not {"const", "prefixItems", "$defs"} & set(each)


@pytest.mark.parametrize("operation", [op for op in OPERATIONS if op.body], ids=lambda op: op.path)
def test_the_fields_are_those_of_the_struct_that_reads_the_body(operation):
    content = DOCUMENT["paths"][operation.path]["post"]["requestBody"]["content"]
    body = content["application/json"]["schema"]
    assert ("items" in body) == operation.is_list
    name = body.get("items", body)["$ref"].rpartition("/")[2]
    schema = DOCUMENT["components"]["schemas"][name]
    assert set(schema["properties"]) == {
        f.encode_name for f in msgspec.structs.fields(operation.body)
    }


async def test_errors_look_as_described(server):
    response = await server.post("/v1/chat/completions", {"messages": 5})
    assert msgspec.json.decode(await response.read(), type=ErrorBody).error.param == "messages"


async def test_the_document_is_served(server):
    response = await server.get("/openapi.json")
    assert response.content_type == "application/json"
    assert await response.json() == DOCUMENT


async def test_the_page_asks_for_nothing_from_elsewhere(server):
    response = await server.get("/docs")
    page = await response.text()
    assert "default-src 'self'" in response.headers["Content-Security-Policy"]
    assert "://" not in page
    for name in ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png", "start.js"):
        assert f'"/docs/{name}"' in page
        assert (await server.get(f"/docs/{name}")).status == 200
    assert "javascript" in (await server.get("/docs/start.js")).content_type


@pytest.mark.parametrize("name", ["no.js", "..%2F..%2F__init__.py", "index.html"])
async def test_the_page_has_no_other_files(server, name):
    assert (await server.get(f"/docs/{name}")).status == 404


async def test_the_page_needs_no_key(start):
    server = await start(api_keys=("secret",))
    for path in ("/openapi.json", "/docs", "/docs/swagger-ui.css"):
        assert (await server.get(path)).status == 200
    assert (await server.get("/docs/no.js")).status == 401


@pytest.mark.parametrize(
    "body", [ChatBody, CompletionBody, EmbeddingBody, RerankBody, TokenizeBody, InfillBody]
)
def test_the_document_for_people_names_every_field(body):
    text = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
    # llama.cpp's samplers are named together
    fields = set(body.__struct_fields__) - set(SamplingFields.__struct_fields__)
    assert not {field for field in fields if f"`{field}" not in text and f'"{field}"' not in text}
