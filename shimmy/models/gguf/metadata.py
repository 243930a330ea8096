"""The key-value pairs of a GGUF header."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from shimmy.errors import GgufError
from shimmy.models.gguf.types import FORMATS, ValueType
from shimmy.models.gguf.window import Window

MAX_PAIRS = 8192
MAX_KEY = 65_535
# A value that is longer is skipped, not refused: some files carry a whole tokenizer.json.
MAX_TEXT = 1024 * 1024
MAX_TEXT_IN_ALL = 16 * 1024 * 1024
# The largest array of today has half a million strings (merges).
MAX_ITEMS = 8 * 1024 * 1024
# Arrays up to this length keep their values: one number per layer, tags, languages.
MAX_KEPT = 1024
MAX_KEPT_IN_ALL = 64 * 1024

_U32 = FORMATS[ValueType.UINT32]
_U64 = FORMATS[ValueType.UINT64]


class Field(msgspec.Struct, frozen=True):
    """One value: its type, for an array the type and number of its items, and what it says.

    `value` is None where it was too long to keep.
    """

    type: ValueType
    value: bool | int | float | str | list[Any] | None
    item_type: ValueType | None = None
    n_items: int = 1


class Metadata:
    """The pairs of a header by key, with typed looks at them that never raise."""

    def __init__(self, fields: Mapping[str, Field]) -> None:
        """Keep the fields."""
        self.fields = fields

    def text(self, key: str) -> str | None:
        """Return a string; None where there is none under this key."""
        value = self._value(key)
        return value if isinstance(value, str) else None

    def count(self, key: str) -> int | None:
        """Return a whole number that is not negative; of an array, its largest item."""
        value = self._value(key)
        if isinstance(value, list):
            numbers = [item for item in value if type(item) is int]
            value = max(numbers, default=None)
        return value if type(value) is int and value >= 0 else None

    def number(self, key: str) -> float | None:
        """Return a number with a fraction."""
        value = self._value(key)
        return value if isinstance(value, float) else None

    def flag(self, key: str) -> bool | None:
        """Return a truth value."""
        value = self._value(key)
        return value if isinstance(value, bool) else None

    def n_items(self, key: str) -> int | None:
        """Return how many items an array has."""
        field = self.fields.get(key)
        return field.n_items if field and field.type is ValueType.ARRAY else None

    def type(self, key: str) -> ValueType | None:
        """Return the type of what is under a key."""
        field = self.fields.get(key)
        return field.type if field else None

    def _value(self, key: str) -> object:
        field = self.fields.get(key)
        return field.value if field else None


class _Budget:
    """What may still be kept of one header."""

    def __init__(self) -> None:
        self.text = MAX_TEXT_IN_ALL
        self.items = MAX_ITEMS
        self.kept = MAX_KEPT_IN_ALL


def read_metadata(window: Window, n_pairs: int) -> Metadata:
    """Read `n_pairs` pairs.

    Raises:
        GgufError: they are not as the format says, or more than a model can need.
    """
    if n_pairs > MAX_PAIRS:
        raise GgufError(f"it has {n_pairs} metadata pairs; {MAX_PAIRS} is the limit")
    fields: dict[str, Field] = {}
    budget = _Budget()
    for number in range(n_pairs):
        key = _key(window, number, budget)
        if key in fields:
            raise GgufError(f"the metadata key {key!r} is there twice")
        fields[key] = _field(window, key, budget)
    return Metadata(fields)


def _key(window: Window, number: int, budget: _Budget) -> str:
    length = window.unpack(_U64)
    if not 0 < length <= MAX_KEY:
        raise GgufError(f"metadata key {number} is {length} bytes long")
    budget.text -= length
    if budget.text < 0:
        raise GgufError(f"the metadata keys up to {number} are longer than any model's")
    return window.take(length).decode("utf-8", "replace")


def _field(window: Window, key: str, budget: _Budget) -> Field:
    kind = _type(window, key)
    if kind is ValueType.ARRAY:
        return _array(window, key, budget)
    if kind is ValueType.STRING:
        return Field(kind, _text(window, budget))
    return Field(kind, window.unpack(FORMATS[kind]))


def _array(window: Window, key: str, budget: _Budget) -> Field:
    kind = _type(window, key)
    count = window.unpack(_U64)
    if kind is ValueType.ARRAY:
        raise GgufError(f"the metadata key {key!r} holds arrays inside an array")
    width = 8 if kind is ValueType.STRING else FORMATS[kind].size
    if count * width > window.left:
        raise GgufError(f"the array {key!r} has {count} items, more than the file has room for")
    budget.items -= count
    if budget.items < 0:
        raise GgufError(f"the arrays up to {key!r} have more than {MAX_ITEMS} items")
    values: list[Any] | None = None
    if count > min(MAX_KEPT, budget.kept):
        if kind is ValueType.STRING:
            window.skip_strings(count)
        else:
            window.skip(count * width)
    else:
        budget.kept -= count
        if kind is ValueType.STRING:
            values = [_text(window, budget) for _ in range(count)]
        else:
            values = [window.unpack(FORMATS[kind]) for _ in range(count)]
    return Field(ValueType.ARRAY, values, kind, count)


def _text(window: Window, budget: _Budget) -> str | None:
    length = window.unpack(_U64)
    if length > min(MAX_TEXT, budget.text):
        window.skip(length)
        return None
    budget.text -= length
    return window.take(length).decode("utf-8", "replace")


def _type(window: Window, key: str) -> ValueType:
    number = window.unpack(_U32)
    try:
        return ValueType(number)
    except ValueError:
        raise GgufError(f"the metadata key {key!r} has the unknown type {number}") from None
