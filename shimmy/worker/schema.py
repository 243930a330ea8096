"""What of a JSON schema llama.cpp's grammars can hold, and what becomes of the rest.

`docs/chat.md` has the table. An answer's schema that says more than a grammar can hold is refused;
a tool's is widened, as agents bring schemas that nobody can change. Nothing is narrowed in silence.
"""

from __future__ import annotations

import re
from typing import Any, NoReturn

import msgspec

from shimmy.engine.types.prompt import ChatPrompt, Prompt
from shimmy.engine.types.sampling import SamplingParams
from shimmy.errors import InvalidRequestError

MAX_BYTES = 256 * 1024
MAX_DEPTH = 64
MAX_REPEAT = 2000
"""llama.cpp's limit on repetitions in a grammar: lengths above it are not held."""

_MAX_INTEGER = 2**62
_TYPES = frozenset({"string", "number", "integer", "boolean", "null", "object", "array"})
_LENGTHS = ("minLength", "maxLength", "minItems", "maxItems")
_RANGES = (
    ("minLength", "maxLength"),
    ("minItems", "maxItems"),
    ("minimum", "maximum"),
    ("minimum", "exclusiveMaximum"),
    ("exclusiveMinimum", "maximum"),
    ("exclusiveMinimum", "exclusiveMaximum"),
)
_COUNT = re.compile(r"(?<=[{,])([0-9]{4,9})(?=[,}])")
_NOTES = frozenset(
    {
        "title",
        "description",
        "default",
        "examples",
        "example",
        "$schema",
        "$id",
        "$comment",
        "deprecated",
        "readOnly",
        "writeOnly",
        "$defs",
        "definitions",
        "strict",
        "type",
    }
)
_NOT_HELD = (
    "not",
    "if",
    "then",
    "else",
    "dependentRequired",
    "dependentSchemas",
    "dependencies",
    "patternProperties",
    "contains",
    "minContains",
    "maxContains",
    "propertyNames",
    "minProperties",
    "maxProperties",
    "unevaluatedItems",
    "unevaluatedProperties",
    "additionalItems",
    "$dynamicRef",
    "$recursiveRef",
    "nullable",
)
_ALONE = ("$ref", "anyOf", "oneOf")


def schema_field(prompt: Prompt, sampling: SamplingParams) -> str | None:
    """Return the request's field that the schema of the answer is from, if there is one."""
    if sampling.json_schema is not None:
        return "json_schema"
    if isinstance(prompt, ChatPrompt) and prompt.json_schema is not None:
        return "response_format"
    return None


def answer_schema(prompt: Prompt, sampling: SamplingParams) -> dict[str, Any] | None:
    """Return the schema of the answer, as a grammar can hold it.

    Raises:
        InvalidRequestError: as of `usable`, about anything that the schema says.
    """
    field = schema_field(prompt, sampling)
    if field is None:
        return None
    schema = sampling.json_schema
    if schema is None and isinstance(prompt, ChatPrompt):
        # a conversation's {} is any object
        schema = prompt.json_schema or {"type": "object"}
    return usable(schema or {}, name="schema", param=field, strict=True)


def usable(schema: dict[str, Any], *, name: str, param: str, strict: bool) -> dict[str, Any]:
    """Return the schema as the grammar can hold it; `name` is what the messages call it.

    Raises:
        InvalidRequestError: it is no schema, a reference leads nowhere, or (`strict`) it says
            something that a grammar cannot hold; `param` is the request's field.
    """
    if len(msgspec.json.encode(schema)) > MAX_BYTES:
        raise InvalidRequestError(f"{name}: more than {MAX_BYTES // 1024} KiB", param=param)
    return _Walk(schema, name, param, strict=strict).visit(schema, "", 0)


class _Walk:
    def __init__(self, root: dict[str, Any], name: str, param: str, *, strict: bool) -> None:
        self._root = root
        self._name = name
        self._param = param
        self._strict = strict

    def visit(self, schema: Any, path: str, depth: int) -> dict[str, Any]:
        """Check one schema and what is in it; returns it without what cannot be held."""
        if depth > MAX_DEPTH:
            self._refuse(path, f"nested more than {MAX_DEPTH} deep")
        if schema is True:
            return {}
        if not isinstance(schema, dict):
            self._refuse(path, "expected a schema, an object")
        self._check_type(schema, path)
        self._check_reference(schema, path)
        self._check_lengths(schema, path)
        out = {key: self._inside(key, value, path, depth) for key, value in schema.items()}
        if self._strict:
            self._check_held(schema, path)
        for key in _LENGTHS:
            if out.get(key, 0) > MAX_REPEAT:
                del out[key]
        if any(int(n) > MAX_REPEAT for n in _COUNT.findall(out.get("pattern", ""))):
            del out["pattern"]
        return out

    def _inside(self, key: str, value: Any, path: str, depth: int) -> Any:
        here = f"{path}/{key}"
        if key in ("properties", "$defs", "definitions"):
            if not isinstance(value, dict):
                self._refuse(here, "expected an object")
            return {k: self.visit(v, f"{here}/{k}", depth + 1) for k, v in value.items()}
        if key in ("anyOf", "oneOf", "allOf", "prefixItems"):
            if not isinstance(value, list) or not value:
                self._refuse(here, "expected a list of schemas")
            return [self.visit(v, f"{here}/{i}", depth + 1) for i, v in enumerate(value)]
        if key == "items" and isinstance(value, list):
            return [self.visit(v, f"{here}/{i}", depth + 1) for i, v in enumerate(value)]
        if key == "items" or (key == "additionalProperties" and not isinstance(value, bool)):
            return self.visit(value, here, depth + 1)
        if key == "enum" and (not isinstance(value, list) or not value):
            self._refuse(here, "expected a list of values")
        if key in ("pattern", "format", "$ref") and not isinstance(value, str):
            self._refuse(here, "expected a string")
        return value

    def _check_type(self, schema: dict[str, Any], path: str) -> None:
        given = schema.get("type")
        types = given if isinstance(given, list) else [given]
        if given is not None and (
            not types or any(not isinstance(t, str) or t not in _TYPES for t in types)
        ):
            self._refuse(f"{path}/type", f"unknown type {given!r}")
        required = schema.get("required", [])
        if not isinstance(required, list) or any(not isinstance(r, str) for r in required):
            self._refuse(f"{path}/required", "expected a list of names")

    def _check_lengths(self, schema: dict[str, Any], path: str) -> None:
        for key in _LENGTHS:
            value = schema.get(key, 0)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                self._refuse(
                    f"{path}/{key}", f"expected a whole number of 0 or more, got {value!r}"
                )
        self._check_order(schema, path)
        if "integer" in _as_list(schema.get("type")):
            for key in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
                value = schema.get(key, 0)
                whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
                if isinstance(value, bool) or not whole or abs(value) >= _MAX_INTEGER:
                    self._refuse(f"{path}/{key}", f"expected a whole number, got {value!r}")

    def _check_order(self, schema: dict[str, Any], path: str) -> None:
        """A range without any value in it: llama.cpp would look for one for ever."""
        for low, high in _RANGES:
            least, most = schema.get(low), schema.get(high)
            if isinstance(least, int | float) and isinstance(most, int | float):
                exclusive = low.startswith("exclusive") + high.startswith("exclusive")
                if "integer" not in _as_list(schema.get("type")):
                    exclusive = 0
                if least + exclusive > most:
                    self._refuse(f"{path}/{low}", f"nothing is between {least} and {most}")

    def _check_reference(self, schema: dict[str, Any], path: str) -> None:
        seen: set[str] = set()
        target: Any = schema
        while isinstance(target, dict) and (reference := target.get("$ref")) is not None:
            if not isinstance(reference, str) or not reference.startswith("#/"):
                self._refuse(
                    f"{path}/$ref", f"only references into the schema work, got {reference!r}"
                )
            if reference in seen:
                self._refuse(f"{path}/$ref", f"{reference!r} leads back to itself")
            seen.add(reference)
            target = self._resolve(reference, path)

    def _resolve(self, reference: str, path: str) -> Any:
        target: Any = self._root
        for part in reference[2:].split("/"):
            if isinstance(target, dict) and part in target:
                target = target[part]
            elif isinstance(target, list) and part.isdecimal() and int(part) < len(target):
                target = target[int(part)]
            else:
                self._refuse(f"{path}/$ref", f"{reference!r} leads nowhere")
        return target

    def _check_held(self, schema: dict[str, Any], path: str) -> None:
        for key in _NOT_HELD:
            if key in schema:
                self._refuse(f"{path}/{key}", "a grammar cannot hold this; leave it out")
        for key in _ALONE:
            beside = schema.keys() - _NOTES - {key}
            if key in schema and beside:
                names = ", ".join(sorted(beside))
                self._refuse(f"{path}/{key}", f"a grammar cannot hold it together with {names}")
        if "allOf" in schema:
            self._check_all_of(schema, path)
        items = schema.get("items")
        if "prefixItems" in schema and items is not None:
            self._refuse(f"{path}/items", "a grammar cannot hold it together with prefixItems")
        known = schema.get("properties", {})
        for name in schema.get("required", []):
            if "allOf" not in schema and name not in known:
                self._refuse(f"{path}/required", f"{name!r} is not among the properties")

    def _check_all_of(self, schema: dict[str, Any], path: str) -> None:
        if schema.keys() & {"properties", "additionalProperties", "enum", "const", "items"}:
            self._refuse(f"{path}/allOf", "a grammar cannot hold it together with other rules")
        for i, part in enumerate(_as_list(schema["allOf"])):
            if not isinstance(part, dict) or not part.keys() & {"$ref", "properties", "enum"}:
                self._refuse(f"{path}/allOf/{i}", "only $ref, properties and enum can be combined")

    def _refuse(self, path: str, why: str) -> NoReturn:
        raise InvalidRequestError(f"{self._name}: {path or '/'}: {why}", param=self._param)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
