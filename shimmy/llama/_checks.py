"""Range checks of arguments that llama.cpp would assert on, overflow or take as a sentinel."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, SupportsFloat, SupportsIndex

from shimmy.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

INT32_MAX = 2**31 - 1
UINT32_MAX = 2**32 - 1
MAX_SEQ = 256  # LLAMA_MAX_SEQ; backend.py compares it with the library


def integer(param: str, value: object, low: int, high: int) -> int:
    """Return `value` if it is a whole number in low..high, else raise an error that names `param`."""
    if type(value) is int:
        number = value  # asking for the protocol takes longer than all the rest
    elif isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise InvalidRequestError(
            f"{param} must be a whole number, not {type(value).__name__}", param=param
        )
    else:
        number = value.__index__()
    if not low <= number <= high:
        raise InvalidRequestError(f"{param} must be in {low}..{high}, but is {number}", param=param)
    return number


def real(
    param: str,
    value: object,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    open_low: bool = False,
) -> float:
    """Return `value` if it is a finite number in low..high (above low with `open_low`)."""
    if isinstance(value, bool) or not isinstance(value, SupportsFloat):
        raise InvalidRequestError(
            f"{param} must be a number, not {type(value).__name__}", param=param
        )
    number = float(value)
    fits = low < number <= high if open_low else low <= number <= high
    if not math.isfinite(number) or not fits:
        bounds = f"{'above' if open_low else 'at least'} {low:g}" if low != -math.inf else "finite"
        if high != math.inf:
            bounds += f" and at most {high:g}"
        raise InvalidRequestError(f"{param} must be {bounds}, but is {number:g}", param=param)
    return number


def boolean(param: str, value: object) -> bool:
    """Return `value` if it is True or False."""
    if not isinstance(value, bool):
        raise InvalidRequestError(
            f"{param} must be true or false, not {type(value).__name__}", param=param
        )
    return value


def word(param: str, value: object, known: Mapping[str, int]) -> int:
    """Return the number that C has for a word, else raise an error that lists the words."""
    if not isinstance(value, str) or value not in known:
        words = ", ".join(str(one) for one in known)
        raise InvalidRequestError(f"{param} must be one of {words}, not '{value}'", param=param)
    return known[value]


def seed(value: int | None) -> int:
    """Return a sampler's seed; None asks llama.cpp for a random one."""
    # 2**32 - 1 is llama.cpp's word for "random", so it is not a seed
    return UINT32_MAX if value is None else integer("seed", value, 0, UINT32_MAX - 1)


def sequence(param: str, value: int) -> int:
    """Return `value` if it can be a sequence id."""
    return integer(param, value, 0, MAX_SEQ - 1)


def nul_free(param: str, value: str) -> bytes:
    """Return `value` in UTF-8 for C, which would cut it at a NUL."""
    if "\0" in value:
        raise InvalidRequestError(f"{param} must not contain a NUL character", param=param)
    return value.encode("utf-8", "surrogateescape")
