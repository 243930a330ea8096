"""`shimmy discover`."""

from __future__ import annotations

import click

from shimmy.cli.flags import GlobalFlags, global_flags


@click.command(name="discover")
@global_flags("model_dirs")
@click.option("--llm-only", is_flag=True, help="Leave out models that only make embeddings.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(flags: GlobalFlags, *, llm_only: bool, as_json: bool) -> None:
    """Search the model folders again and show what is there."""
    from shimmy.cli.listing import show_models
    from shimmy.cli.models import registry
    from shimmy.models.discovery import search_roots
    from shimmy.models.header import ENCODERS

    found = [entry for entry in registry(flags).entries() if entry.source == "discovered"]
    if llm_only:
        found = [entry for entry in found if entry.architecture not in ENCODERS]
    if found or as_json:
        show_models(found, as_json=as_json)
        return
    print("No models found. Searched:")
    for root in search_roots(flags.model_dirs):
        print(f"  {root}{'' if root.is_dir() else ' (no such folder)'}")
    print("Put a .gguf file there, or name other folders with --model-dirs.")
