"""One environment variable: how it is found and read."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from shimmy.errors import ConfigError

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable(Generic[T]):
    """One environment variable: how its text is read, and what holds without it."""

    name: str
    default: T
    parse: Callable[[str], T]
    meaning: str
    also: tuple[str, ...] = ()
    """Names of the Rust shimmy's documents that mean the same; they count where `name` is unset."""

    def found(self, environ: Mapping[str, str] | None = None) -> tuple[str, T] | None:
        """Return the name that is set, and its value; None if it is unset or empty.

        Raises:
            ConfigError: the text cannot be read; names the variable.
        """
        variables = os.environ if environ is None else environ
        for name in (self.name, *self.also):
            if text := variables.get(name, "").strip():
                try:
                    return name, self.parse(text)
                except ValueError as error:
                    raise ConfigError(f"{name}={text!r}: {error}", param=name) from error
        return None

    def get(self, environ: Mapping[str, str] | None = None) -> T:
        """Return its value; unset and empty mean the default.

        Raises:
            ConfigError: the text cannot be read; names the variable.
        """
        found = self.found(environ)
        return self.default if found is None else found[1]
