"""The global flags: each may stand before the command or after it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from typing import Literal

import click

from shimmy.cli.numbers import Whole
from shimmy.config import GPU_BACKENDS

Topic = Literal["config", "model_dirs", "gpu_backend", "moe"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalFlags:
    """Global flags as given; None (False for a switch) where one was not."""

    config: str | None = None
    model_dirs: str | None = None
    gpu_backend: str | None = None
    cpu_moe: bool = False
    n_cpu_moe: int | None = None

    def merged(self, later: GlobalFlags) -> GlobalFlags:
        """Return these flags, with those that `later` sets in their place.

        Raises:
            click.UsageError: two of them exclude each other.
        """
        values = {
            item.name: getattr(later, item.name) or getattr(self, item.name)
            for item in fields(self)
            if item.name != "n_cpu_moe"
        }
        n_cpu_moe = self.n_cpu_moe if later.n_cpu_moe is None else later.n_cpu_moe
        if values["cpu_moe"] and n_cpu_moe is not None:
            raise click.UsageError("--cpu-moe cannot be used with --n-cpu-moe")
        return GlobalFlags(n_cpu_moe=n_cpu_moe, **values)


_OPTIONS: dict[Topic, list[Callable[[Callable[..., None]], Callable[..., None]]]] = {
    "config": [
        click.option(
            "--config",
            metavar="FILE",
            help="Configuration to read in place of the user's shimmy.toml.",
        ),
    ],
    "model_dirs": [
        click.option(
            "--model-dirs",
            metavar="DIRS",
            help="Folders to search for models, separated by ';'. Replaces SHIMMY_MODEL_PATHS.",
        ),
    ],
    "gpu_backend": [
        click.option(
            "--gpu-backend",
            type=click.Choice(GPU_BACKENDS, case_sensitive=False),
            help="Backend to run on; auto takes the best that is there.",
        ),
    ],
    "moe": [
        click.option(
            "--cpu-moe", is_flag=True, help="Keep all expert tensors of an MoE model on the CPU."
        ),
        click.option(
            "--n-cpu-moe",
            type=Whole(min=0),
            metavar="N",
            help="Keep the expert tensors of the first N layers on the CPU.",
        ),
    ],
}


def global_flags(*topics: Topic) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the global flags of `topics` to a command, whose first argument they become."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        names = {item.name for item in fields(GlobalFlags)}

        @wraps(function)
        def command(*args: object, **values: object) -> None:
            given = {name: values.pop(name) for name in names & values.keys()}
            ctx = click.get_current_context()
            before = ctx.parent.obj if ctx.parent is not None else None
            flags = (before or GlobalFlags()).merged(GlobalFlags(**given))  # type: ignore[arg-type]
            function(*args, flags, **values)

        for topic in reversed(topics):
            for option in reversed(_OPTIONS[topic]):
                command = option(command)
        return command

    return decorate
