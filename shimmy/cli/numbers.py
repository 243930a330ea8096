"""Numbers on the command line, and what is said of a text that is none or lies outside of its range."""

from __future__ import annotations

from typing import Any

import click


class Whole(click.IntRange):
    """A whole number in a range; both ends count."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number."""
        try:
            number: int = super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"{value!r} is not a whole number{_within(self)}", param, ctx)
        return number


class Real(click.FloatRange):
    """A number in a range; the lower end may be left out."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number."""
        try:
            number: float = super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"{value!r} is not a number{_within(self)}", param, ctx)
        return number


def _within(kind: click.IntRange | click.FloatRange) -> str:
    """Say what the range is, as the end of a sentence."""
    if kind.min is None:
        return ""
    if kind.max is not None:
        return f" from {kind.min} to {kind.max}"
    return f" greater than {kind.min}" if kind.min_open else f" of at least {kind.min}"
