"""`shimmy list`."""

from __future__ import annotations

import click

from shimmy.cli.flags import GlobalFlags, global_flags


@click.command(name="list")
@global_flags("model_dirs")
@click.option("-s", "--short", is_flag=True, help="Names only, one per line.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(flags: GlobalFlags, *, short: bool, as_json: bool) -> None:
    """List the models that can be served."""
    from shimmy.cli.listing import show_models
    from shimmy.cli.models import registry

    if short and as_json:
        raise click.UsageError("--short cannot be used with --json")
    show_models(registry(flags).entries(), as_json=as_json, short=short)
