"""JSON schemas: what a grammar cannot hold is refused for answers, widened for tools, and never dropped in silence."""

from __future__ import annotations

from typing import Any

import pytest

from shimmy.errors import InvalidRequestError
from shimmy.worker.schema import MAX_DEPTH, usable


def obj(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def deep(n: int) -> dict[str, Any]:
    out: dict[str, Any] = {"type": "string"}
    for _ in range(n):
        out = obj(a=out)
    return out


HELD = [
    {"type": "object"},
    obj(a={"type": ["string", "null"], "description": "x", "default": None}),
    {**obj(a={"$ref": "#/$defs/A"}), "$defs": {"A": {"enum": [1, 2]}}, "required": ["a"]},
    obj(a={"anyOf": [{"type": "integer", "minimum": 1}, {"const": "x"}], "title": "A"}),
    obj(a={"type": "array", "items": {"type": "number"}, "minItems": 1, "maxItems": 3}),
    obj(a={"type": "array", "prefixItems": [{"type": "number"}, {"type": "string"}]}),
    {"type": "object", "additionalProperties": {"type": "string"}},
    {"allOf": [{"$ref": "#/$defs/A"}, obj(b={"type": "string"})], "$defs": {"A": obj()}},
    obj(a={"type": "number", "minimum": 0.5, "multipleOf": 0.1}),
    obj(a={"type": "string", "pattern": "^[a-z]+$"}),
]
NOT_HELD = [
    (obj(a={"not": {"type": "string"}}), "/properties/a/not"),
    ({"if": {}, "then": {}}, "/if"),
    ({"type": "object", "patternProperties": {"a": {}}}, "/patternProperties"),
    ({"type": "object", "minProperties": 1}, "/minProperties"),
    (obj(a={"type": "array", "contains": {}}), "/properties/a/contains"),
    ({"anyOf": [{"type": "string"}], "properties": {}}, "/anyOf"),
    ({"$ref": "#/$defs/A", "$defs": {"A": {}}, "required": ["a"]}, "/$ref"),
    ({"allOf": [obj()], "properties": {}}, "/allOf"),
    ({"allOf": [{"type": "string", "minLength": 2}]}, "/allOf/0"),
    (obj(a={"prefixItems": [{}], "items": {}}), "/properties/a/items"),
    ({**obj(), "required": ["a"]}, "/required"),
]
BROKEN: list[tuple[Any, str]] = [
    ({"type": "strange"}, "/type"),
    ({"type": []}, "/type"),
    (obj(a=False), "/properties/a"),
    (obj(a=3), "/properties/a"),
    ({"properties": []}, "/properties"),
    ({"enum": []}, "/enum"),
    ({"anyOf": {}}, "/anyOf"),
    ({"$ref": "https://example.com/x"}, "/$ref"),
    ({"$ref": "#/$defs/A"}, "/$ref"),
    ({"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}}, "leads back"),
    ({"type": "string", "minLength": -1}, "/minLength"),
    ({"type": "array", "items": {}, "maxItems": "3"}, "/maxItems"),
    ({"type": "integer", "minimum": 0.5}, "/minimum"),
    ({"type": "integer", "maximum": "3"}, "/maximum"),
    ({"type": "integer", "minimum": None}, "/minimum"),
    ({"properties": 3, "required": ["a"]}, "/properties"),
    ({"type": "string", "pattern": 3}, "/pattern"),
    ({"type": "array", "items": {}, "minItems": 3, "maxItems": 2}, "/minItems"),
    ({"type": "string", "minLength": 3, "maxLength": 2}, "/minLength"),
    ({"type": "integer", "minimum": 3, "maximum": 1}, "/minimum"),
    ({"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 4}, "/exclusiveMinimum"),
    ({"required": "a"}, "/required"),
    (deep(MAX_DEPTH + 1), "nested more than"),
]


@pytest.mark.parametrize("schema", HELD)
def test_what_a_grammar_can_hold_is_kept_as_it_is(schema: dict[str, Any]) -> None:
    assert usable(schema, name="schema", param="p", strict=True) == schema


@pytest.mark.parametrize(("schema", "where"), NOT_HELD)
def test_what_a_grammar_cannot_hold_is_refused_for_answers_only(
    schema: dict[str, Any], where: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        usable(schema, name="schema", param="response_format", strict=True)
    assert caught.value.param == "response_format"
    assert f"schema: {where}: " in caught.value.message
    assert usable(schema, name="tools: f", param="tools", strict=False) == schema


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(("schema", "where"), BROKEN)
def test_what_is_no_schema_is_refused(schema: Any, where: str, strict: bool) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        usable(schema, name="schema", param="p", strict=strict)
    assert where in caught.value.message


def test_lengths_beyond_a_grammars_are_dropped() -> None:
    schema = obj(a={"type": "string", "minLength": 1, "maxLength": 5000})
    held = usable(schema, name="s", param="p", strict=True)
    assert held == obj(a={"type": "string", "minLength": 1})
    schema = obj(a={"type": "string", "pattern": "^a{1,5000}$"})
    assert usable(schema, name="s", param="p", strict=True) == obj(a={"type": "string"})


def test_true_is_any_value() -> None:
    assert usable(obj(a=True), name="s", param="p", strict=True) == obj(a={})


def test_a_schema_has_a_size() -> None:
    with pytest.raises(InvalidRequestError, match="KiB"):
        usable({"enum": ["x" * 300_000]}, name="s", param="p", strict=True)
