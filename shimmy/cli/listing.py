"""How lists of models are shown: `list` and `discover` share it."""

from __future__ import annotations

from collections.abc import Sequence

import click

from shimmy.cli.console import print_table, sized
from shimmy.models.discovery import FoundPart, Scan
from shimmy.models.entry import ModelEntry


def show_models(entries: Sequence[ModelEntry], *, short: bool = False) -> None:
    """Print models as a table, or as one name per line."""
    if short:
        for entry in entries:
            print(entry.name)
        return
    columns = ("NAME", ">SIZE", ">PARAMS", "TYPE", "ARCHITECTURE", ">CONTEXT", "SOURCE", "PATH")
    print_table(columns, [_row(entry) for entry in entries])
    projectors = [(e.name, e.projector_use, e.projector) for e in entries if e.projector]
    if projectors:
        click.echo("\nProjectors, through which models see images:")
        print_table(("OF", "FOR", "PATH"), projectors)


def show_adapters(adapters: Sequence[FoundPart], entries: Sequence[ModelEntry]) -> None:
    """Print the LoRA adapters, and which models each of them fits."""
    if not adapters:
        return
    click.echo("\nLoRA adapters, for --lora:")
    rows = []
    for adapter in adapters:
        fit = [e.name for e in entries if any(a.path == adapter.path for a in e.adapters)]
        rows.append((adapter.stem, ", ".join(fit) or "no model here", adapter.path))
    print_table(("NAME", "FITS", "PATH"), rows)


def show_skipped(scan: Scan) -> None:
    """Print what looks like a model and cannot be used, and why."""
    if scan.skipped:
        click.echo("\nNot usable:")
        print_table(("PATH", "REASON"), [(item.path, item.reason) for item in scan.skipped])


def counted(number: int) -> str:
    """Return a count of parameters for people, such as 4.0B."""
    for unit, name in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if number >= unit:
            return f"{number / unit:.1f}{name}"
    return str(number) if number else "?"


def _row(entry: ModelEntry) -> tuple[str, ...]:
    source = entry.store if entry.source == "discovered" else entry.source
    kind = "" if entry.kind == "llm" else f" ({entry.kind})"
    shards = f" in {entry.n_shards}" if entry.n_shards > 1 else ""
    return (
        entry.name,
        sized(entry.size) + shards,
        counted(entry.n_params),
        entry.quantisation or "?",
        (entry.architecture or "?") + kind,
        str(entry.n_ctx_train or "?"),
        entry.note or source,
        entry.path,
    )
