"""GET /openapi.json: the endpoints and their bodies, made from the structs that read the bodies."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import web

from shimmy.server.dialects.anthropic.request import MessagesBody, MessagesPrompt
from shimmy.server.dialects.chat_body import ChatBody
from shimmy.server.dialects.completion_request import CompletionBody
from shimmy.server.dialects.embeddings import EmbeddingBody
from shimmy.server.dialects.generation import LoraScale
from shimmy.server.dialects.infill import InfillBody
from shimmy.server.dialects.native import NativeBody
from shimmy.server.dialects.rerank import RerankBody
from shimmy.server.dialects.responses.body import ResponsesBody, ResponsesPrompt
from shimmy.server.dialects.tokens import DetokenizeBody, TokenizeBody
from shimmy.server.health import ENDPOINTS, VERSION
from shimmy.server.reply import json_response


class ErrorObject(msgspec.Struct, kw_only=True):
    """What went wrong; `param` names the field, `code` is a stable word for programs."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(msgspec.Struct, kw_only=True):
    """The body of every answer that is not 2xx, Anthropic's endpoints excepted."""

    error: ErrorObject


@dataclass(frozen=True, slots=True)
class Operation:
    """One endpoint; `body` None for those that are only read, `is_list` for a list of such.

    Its answers are JSON, or events if it `streams`, or plain `text`.
    """

    path: str
    summary: str
    body: type[msgspec.Struct] | None = None
    streams: bool = False
    method: str = "post"
    is_list: bool = False
    text: bool = False


OPERATIONS = (
    Operation(ENDPOINTS["chat"], "Answer a conversation", ChatBody, streams=True),
    Operation(ENDPOINTS["completions"], "Continue a text", CompletionBody, streams=True),
    Operation(
        ENDPOINTS["responses"], "Answer, in OpenAI's newer form", ResponsesBody, streams=True
    ),
    Operation(ENDPOINTS["input_tokens"], "Count the tokens of such a request", ResponsesPrompt),
    Operation(ENDPOINTS["responses"] + "/{id}", "Show a response", method="get"),
    Operation(ENDPOINTS["responses"] + "/{id}", "Forget a response", method="delete"),
    Operation(
        ENDPOINTS["responses"] + "/{id}/input_items", "List what the model read", method="get"
    ),
    Operation(ENDPOINTS["messages"], "Answer, in Anthropic's form", MessagesBody, streams=True),
    Operation(ENDPOINTS["count_tokens"], "Count the tokens of such a request", MessagesPrompt),
    Operation(ENDPOINTS["generate"], "Answer, in shimmy's own form", NativeBody, streams=True),
    Operation(ENDPOINTS["infill"], "Fill a gap in a text", InfillBody, streams=True),
    Operation(ENDPOINTS["embeddings"], "Turn texts into vectors", EmbeddingBody),
    Operation(ENDPOINTS["rerank"], "Sort documents by their closeness to a query", RerankBody),
    Operation(ENDPOINTS["tokenize"], "Turn a text into tokens", TokenizeBody),
    Operation(ENDPOINTS["detokenize"], "Turn tokens into a text", DetokenizeBody),
    Operation(ENDPOINTS["apply_template"], "Show what the model reads of a conversation", ChatBody),
    Operation(ENDPOINTS["slots"], "Show what each slot does", method="get"),
    Operation(ENDPOINTS["props"], "Show the properties of the loaded model", method="get"),
    Operation(ENDPOINTS["props"], "Refused: properties cannot be changed"),
    Operation(ENDPOINTS["lora_adapters"], "List the LoRA adapters", method="get"),
    Operation(ENDPOINTS["lora_adapters"], "Change their default scales", LoraScale, is_list=True),
    Operation(ENDPOINTS["models"], "List the models", method="get"),
    Operation(ENDPOINTS["models"] + "/{id}", "Show one model", method="get"),
    Operation(ENDPOINTS["health"], "Tell whether requests are answered now", method="get"),
    Operation(ENDPOINTS["metrics"], "Count, for Prometheus or as JSON", method="get", text=True),
)
"""What programs ask for. Each endpoint's fields are those of its struct."""


async def openapi(_request: web.Request) -> web.Response:
    """Answer with the document."""
    return json_response(document())


@functools.cache
def document() -> bytes:
    """Return the OpenAPI document as JSON."""
    structs = {operation.body for operation in OPERATIONS if operation.body} | {ErrorBody}
    ordered = sorted(structs, key=lambda struct: struct.__name__)
    refs, components = msgspec.json.schema_components(
        ordered, ref_template="#/components/schemas/{name}"
    )
    schemas = dict(zip(ordered, refs, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _describe(operation, schemas)
    text = msgspec.json.encode(
        {
            # Swagger UI 4, the newest on PyPI by itself, reads no 3.1
            "openapi": "3.0.3",
            "info": {
                "title": "shimmy",
                "version": VERSION,
                "description": "Fields that are not listed are accepted and mean nothing.",
            },
            "paths": paths,
            "components": {
                "schemas": {name: _as_3_0(schema) for name, schema in components.items()},
                "securitySchemes": {
                    "bearer": {"type": "http", "scheme": "bearer"},
                    "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
                },
            },
            # keys are asked for only where the server was given some
            "security": [{}, {"bearer": []}, {"key": []}],
        }
    )
    # structs of the same name are told apart by their modules
    return text.replace(b"shimmy.server.dialects.", b"")


def _describe(
    operation: Operation, schemas: dict[type[msgspec.Struct], dict[str, Any]]
) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {}}
    if operation.streams:
        content["text/event-stream"] = {}
    if operation.text:
        content["text/plain"] = {}
    # Anthropic's errors look otherwise
    error = (
        {} if operation.path.startswith(ENDPOINTS["messages"]) else {"schema": schemas[ErrorBody]}
    )
    errors = {"application/json": error}
    described: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": operation.method + operation.path.translate(_NAME),
        "responses": {
            "200": {"description": "The answer", "content": content},
            "4XX": {"description": "A fault of the request", "content": errors},
            "5XX": {"description": "A fault of the server", "content": errors},
        },
    }
    if "{id}" in operation.path:
        described["parameters"] = [
            {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
        ]
    if operation.body is not None:
        schema = schemas[operation.body]
        if operation.is_list:
            schema = {"type": "array", "items": schema}
        described["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema}},
        }
    return described


_NAME = str.maketrans({"/": "_", "-": "_", "{": None, "}": None})


def _as_3_0(schema: Any) -> Any:
    """Turn JSON Schema 2020-12 into the older kind that OpenAPI 3.0 knows."""
    if isinstance(schema, list):
        return [_as_3_0(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if {"type": "null"} in schema.get("anyOf", ()):
        kinds = [_as_3_0(each) for each in schema["anyOf"] if each != {"type": "null"}]
        kind = kinds[0] if len(kinds) == 1 and "$ref" not in kinds[0] else {"anyOf": kinds}
        return {**kind, "nullable": True}
    return dict(_fields_as_3_0(schema))


def _fields_as_3_0(schema: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in schema.items():
        if name == "enum":
            yield "type", "string"
            yield "enum", value
        elif name == "const":
            yield "enum", [value]
        elif name == "prefixItems":
            yield "items", {}
        elif name == "items" and "prefixItems" in schema:
            continue
        elif name != "default" or value is not None:
            yield name, _as_3_0(value)
