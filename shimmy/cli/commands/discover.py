"""`shimmy discover`."""

from __future__ import annotations

from pathlib import Path

import click

from shimmy.cli.flags import GlobalFlags, global_flags


@click.command(name="discover")
@global_flags("model_dirs")
@click.option("-s", "--short", is_flag=True, help="Names only, one per line.")
@click.option("--llm-only", is_flag=True, help="Leave out models that do not write text.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(flags: GlobalFlags, *, short: bool, llm_only: bool, as_json: bool) -> None:
    """Search the model folders again and show what is there."""
    from shimmy.cli.console import print_json
    from shimmy.cli.listing import show_adapters, show_models, show_skipped
    from shimmy.cli.models import registry

    if short and as_json:
        raise click.UsageError("--short cannot be used with --json")
    models = registry(flags)
    scan = models.scan
    found = [entry for entry in models.entries() if entry.source == "discovered"]
    if llm_only:
        found = [entry for entry in found if entry.kind == "llm"]
    if as_json:
        adapters = [{"name": item.stem, "path": item.path} for item in scan.adapters]
        print_json({"models": found, "adapters": adapters, "skipped": scan.skipped})
        return
    if found:
        show_models(found, short=short)
    elif not short:
        _show_folders(flags)
    if not short:
        show_adapters(scan.adapters, found)
        show_skipped(scan)


def _show_folders(flags: GlobalFlags) -> None:
    from shimmy.cli.models import folders
    from shimmy.models.discovery import search_roots

    print("No models found. Searched:")
    listed, _ = folders(flags)
    for root in search_roots(listed):
        print(f"  {root}{_lack(root)}")
    print("Put a .gguf file there, or name other folders with --model-dirs.")


def _lack(root: Path) -> str:
    """Say why nothing can be found in a folder, if that is so."""
    try:
        return "" if root.is_dir() else " (no such folder)"
    except OSError as error:  # the folder above it may not be looked into
        return f" (cannot be read: {error.strerror})"
