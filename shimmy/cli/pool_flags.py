"""Flags that say how many models stay loaded, and for how long."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import click

from shimmy.cli.numbers import Whole
from shimmy.cli.units import DURATION, SIZE

_OPTIONS: list[Callable[[Callable[..., None]], Callable[..., None]]] = [
    click.option(
        "--models-max",
        "--max-loaded",
        "models_max",
        type=Whole(min=0),
        metavar="N",
        help="Models that may be loaded at once; 0: no limit. Default 4.",
    ),
    click.option(
        "--models-memory",
        "models_memory",
        type=SIZE,
        metavar="SIZE",
        help="Memory that the loaded models may take together, such as 8GiB; 0: no limit. Default: what is free.",
    ),
    click.option(
        "--idle-unload",
        "--keep-alive",
        "idle_unload",
        type=DURATION,
        metavar="TIME",
        help="Unload a model that nobody has used for this long, such as 5m; -1: never (default).",
    ),
]

_NAMES = ("models_max", "models_memory", "idle_unload")


def pool_flags(function: Callable[..., None]) -> Callable[..., None]:
    """Add the flags to a command; those that were given reach it as `pool`."""

    @wraps(function)
    def command(*args: object, **values: object) -> None:
        given = {name: values.pop(name) for name in _NAMES}
        pool = {name: value for name, value in given.items() if value is not None}
        function(*args, pool=pool, **values)

    for option in reversed(_OPTIONS):
        command = option(command)
    return command
