"""From bytes to a typed body, with errors that name the field; checks that dialects share."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from shimmy.engine.types.request import MAX_STOPS
from shimmy.server.errors import FieldError

T = TypeVar("T")

MAX_INT = 2**31 - 1
MAX_DEPTH = 64

_PATH = re.compile(r"^(?P<what>.*) - at `(?P<path>[^`]*)`$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(?P<name>[^`]*)`$")

Harmless = Callable[[Any], bool]


def decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Return the body as the decoder's type.

    Raises:
        FieldError: malformed JSON (NaN and Infinity too), no object, or a field of a wrong type.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        what = f"is not JSON: {error}" if body.strip() else "is empty: send a JSON object"
        raise FieldError(f"the body {what}", param=None, code="invalid_json") from error
    except RecursionError as error:
        raise FieldError(
            "the body is nested too deeply", param=None, code="invalid_json"
        ) from error


def _invalid(text: str) -> FieldError:
    """Turn "Expected `int`, got `str` - at `$.a.b`" into an error for the field `a.b`."""
    match = _PATH.match(text)
    what = match["what"] if match else text
    path = match["path"].removeprefix("$").removeprefix(".") if match else ""
    missing = _MISSING.match(what)
    if missing:
        path = f"{path}.{missing['name']}" if path else missing["name"]
        return FieldError(f"{path} is required", param=path, code="missing_required_parameter")
    where = path or "the body"
    return FieldError(
        f"{where}: {what[:1].lower()}{what[1:]}", param=path or None, code="invalid_type"
    )


def unsupported(field: str, why: str = "is not supported here yet; leave it out") -> FieldError:
    """Return the error for a field that clients may expect to work, and that does not."""
    return FieldError(f"{field} {why}", param=field, code="unsupported_parameter")


def refuse(body: object, fields: Mapping[str, Harmless]) -> None:
    """Raise for the first of `fields` that is set to something that is not harmless."""
    for name, harmless in fields.items():
        value = getattr(body, name)
        if value is not None and not harmless(value):
            raise unsupported(name)


def never(_value: object) -> bool:
    """No value of this field is harmless."""
    return False


def one_of(*values: object) -> Harmless:
    """Return a check that takes these values; False is not 0 here, and 1.0 is not True."""
    return lambda value: any(value == each and type(value) is type(each) for each in values)


def check_max_tokens(value: int | None, field: str, *, least: int = 1) -> int | None:
    """Return a limit on generated tokens, None for none but the context.

    Raises:
        FieldError: it is out of range; code `invalid_max_tokens`.
    """
    if value is not None and not least <= value <= MAX_INT:
        raise FieldError(
            f"{field} must be between {least} and {MAX_INT}, got {value}; leave it out for no limit",
            param=field,
            code="invalid_max_tokens",
        )
    return value


def check_stops(stops: list[str], field: str) -> list[str]:
    """Return stop strings as they are.

    Raises:
        FieldError: there are too many, or one is empty; names `field`, not the engine's `stop`.
    """
    if len(stops) > MAX_STOPS:
        raise FieldError(
            f"{field} may hold up to {MAX_STOPS} strings, got {len(stops)}",
            param=field,
            code="invalid_value",
        )
    if "" in stops:
        raise FieldError(
            f"{field} must not hold an empty string", param=field, code="invalid_value"
        )
    return stops


def check_tree(value: object, field: str) -> None:
    """Raise for free-form JSON that is too deep, or holds integers of more than 64 bits.

    What passes can be carried to a worker and walked by recursion there.
    """
    level = [value]
    for _ in range(MAX_DEPTH):
        inner: list[object] = []
        for each in level:
            if isinstance(each, dict):
                inner.extend(each.values())
            elif isinstance(each, list):
                inner.extend(each)
            elif isinstance(each, int) and not -(2**63) <= each < 2**64:
                raise FieldError(
                    f"{field} holds a number that is too large", param=field, code="invalid_value"
                )
        if not inner:
            return
        level = inner
    raise FieldError(
        f"{field} is nested more than {MAX_DEPTH} levels deep", param=field, code="invalid_value"
    )
