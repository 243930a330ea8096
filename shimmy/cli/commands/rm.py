"""`shimmy rm`."""

from __future__ import annotations

import click

from shimmy.cli.flags import GlobalFlags, global_flags


@click.command(name="rm")
@global_flags("model_dirs")
@click.argument("name", metavar="NAME")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def command(flags: GlobalFlags, *, name: str, yes: bool) -> None:
    """Remove a model that was pulled."""
    from shimmy.cli.console import sized
    from shimmy.cli.models import registry
    from shimmy.models.hub.place import pull_root
    from shimmy.models.hub.removal import plan_removal

    models = registry(flags)
    removal = plan_removal(models.resolve(name), models.entries(), pull_root())
    for file in removal.files:
        click.echo(str(file))
    if not yes:
        click.confirm(f"remove {sized(removal.size)}?", abort=True, err=True)
    removal.run()
    click.echo(f"removed {name}: {sized(removal.size)} are free again")
