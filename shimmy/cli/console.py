"""Where text for people goes. Colours only on a terminal that wants them (NO_COLOR, TERM=dumb)."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

# A pipe has no width: a path must not be cut to fit one.
_PIPE_WIDTH = 10_000


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # the group's to handle, as for any other output


def stdout() -> Console:
    """Return a console on standard output."""
    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    return _Console(highlight=False, markup=False, emoji=False, width=width)


def stderr() -> Console:
    """Return a console on standard error."""
    width = None if sys.stderr.isatty() else _PIPE_WIDTH
    return _Console(stderr=True, highlight=False, markup=False, emoji=False, width=width)


def print_json(value: object) -> None:
    """Print one JSON document, indented."""
    text = msgspec.json.format(msgspec.json.encode(value), indent=2)
    click.echo(text.decode())


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; a column whose title starts with `>` is right-aligned."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in columns:
        right = title.startswith(">")
        table.add_column(
            Text(title.removeprefix(">")),
            justify="right" if right else "left",
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console = stdout()
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        click.echo(line.rstrip())  # rich fills the last column with spaces


def sized(n_bytes: int) -> str:
    """Return a size for people, in decimal units as disks are sold."""
    size = float(n_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
