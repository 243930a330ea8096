"""`shimmy list`."""

from __future__ import annotations

import click

from shimmy.cli.flags import GlobalFlags, global_flags


@click.command(name="list")
@global_flags("model_dirs")
@click.option("-s", "--short", is_flag=True, help="Names only, one per line.")
@click.option("--llm-only", is_flag=True, help="Leave out models that do not write text.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(flags: GlobalFlags, *, short: bool, llm_only: bool, as_json: bool) -> None:
    """List the models that can be served."""
    from shimmy.cli.console import print_json
    from shimmy.cli.listing import show_models
    from shimmy.cli.models import registry

    if short and as_json:
        raise click.UsageError("--short cannot be used with --json")
    models = registry(flags)
    entries = [entry for entry in models.entries() if not llm_only or entry.kind == "llm"]
    if as_json:
        print_json({"models": entries})
        return
    show_models(entries, short=short)
    if models.scan.skipped and not short:
        n = len(models.scan.skipped)
        click.echo(f"\n{n} more cannot be used: `shimmy discover` says why.")
