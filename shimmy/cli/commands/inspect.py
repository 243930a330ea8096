"""`shimmy inspect`."""

from __future__ import annotations

import click

from shimmy.cli.flags import GlobalFlags, global_flags


@click.command(name="inspect")
@global_flags("model_dirs")
@click.argument("name", metavar="NAME|PATH")
@click.option("--tensors", is_flag=True, help="Show the table of tensors too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: all metadata.")
def command(flags: GlobalFlags, *, name: str, tensors: bool, as_json: bool) -> None:
    """Show what a GGUF file is, from its header alone."""
    from shimmy.cli.console import print_json
    from shimmy.cli.inspection import as_data, show
    from shimmy.cli.models import find
    from shimmy.models.inspection import inspect

    inspection = inspect(find(flags, name))
    if as_json:
        print_json(as_data(inspection, tensors=tensors))
    else:
        show(inspection, tensors=tensors)
