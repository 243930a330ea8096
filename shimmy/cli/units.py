"""Times and sizes on the command line, in people's units."""

from __future__ import annotations

from collections.abc import Callable

import click

from shimmy.config import parse_duration, parse_size


class Quantity(click.ParamType):  # type: ignore[type-arg]  # generic since Click 8.4 only
    """A number with a unit, read by one of the parsers of `shimmy.config`."""

    def __init__(self, name: str, parse: Callable[[str], float]) -> None:
        """Call it `name` in messages."""
        self.name = name
        self._parse = parse

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read a text; numbers stay."""
        if isinstance(value, int | float):
            return value
        try:
            return self._parse(str(value))
        except ValueError as error:
            self.fail(f"{value!r}: {error}", param, ctx)


DURATION = Quantity("duration", parse_duration)
SIZE = Quantity("size", parse_size)

_LEAST_MEMORY = 1 << 20


def memory_size(_ctx: click.Context, _param: click.Parameter, value: float | None) -> float | None:
    """Refuse a memory of a few bytes: whoever says 8 means gigabytes. 0 is none."""
    if value and value < _LEAST_MEMORY:
        raise click.BadParameter(f"{value:g} bytes are no memory: give a unit, as in {value:g}GB")
    return value
