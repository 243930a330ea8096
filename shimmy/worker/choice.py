"""A word of an option, as one of an enumeration's."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

from shimmy.errors import ConfigError

_Choice = TypeVar("_Choice", bound=StrEnum)


def choice(kind: type[_Choice], given: str | None, flag: str) -> _Choice | None:
    """Return the member called `given`; raises `ConfigError`, which names `flag` and the words."""
    if given is None:
        return None
    try:
        return kind(given)
    except ValueError:
        known = ", ".join(kind)
        raise ConfigError(f"{flag}: {given!r} is not one of {known}", param=flag) from None
