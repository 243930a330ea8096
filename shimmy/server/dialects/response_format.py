"""OpenAI's `response_format`, of both of its endpoints that have one."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from shimmy.server.dialects.fields import check_tree
from shimmy.server.errors import FieldError


class NamedSchema(msgspec.Struct, kw_only=True):
    """The `json_schema` of a response format."""

    name: str | None = None
    description: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class ResponseFormat(msgspec.Struct, kw_only=True):
    """What the answer must be; llama-server's `schema` beside `json_object` is taken too."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None
    schema: dict[str, Any] | None = None


def schema_of(form: ResponseFormat | None) -> dict[str, Any] | None:
    """Return the JSON schema that the answer must fit; {} is any object.

    Raises:
        FieldError: there is no schema where there must be one, or it is too deep.
    """
    if form is None or form.type == "text":
        return None
    path = "response_format.schema"
    schema = form.schema
    if form.type == "json_schema":
        path = "response_format.json_schema.schema"
        schema = form.json_schema.schema if form.json_schema else form.schema
        if schema is None:
            raise FieldError(f"{path} is required", param=path, code="missing_required_parameter")
    check_tree(schema, path)
    return schema or {}
