"""How a list of models is shown: `list` and `discover` share it."""

from __future__ import annotations

from shimmy.cli.console import print_json, print_table, sized
from shimmy.models.entry import ModelEntry


def show_models(entries: list[ModelEntry], *, as_json: bool = False, short: bool = False) -> None:
    """Print models as a table, as one name per line, or as JSON."""
    if as_json:
        print_json({"models": entries})
    elif short:
        for entry in entries:
            print(entry.name)
    else:
        rows = [
            (
                entry.name,
                sized(entry.size),
                entry.architecture or "?",
                entry.note or entry.source,
                entry.path,
            )
            for entry in entries
        ]
        print_table(("NAME", ">SIZE", "ARCHITECTURE", "SOURCE", "PATH"), rows)
