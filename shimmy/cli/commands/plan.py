"""`shimmy plan`."""

from __future__ import annotations

import click


@click.command(name="plan")
@click.argument("name", metavar="NAME|PATH")
def command(name: str) -> None:
    """Say what a model would take here, and how it would be loaded."""
    raise click.UsageError(name)
