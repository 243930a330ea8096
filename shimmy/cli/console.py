"""Where text for people goes. Colours only on a terminal that wants them (NO_COLOR, TERM=dumb).

Tables and bars are rich's, which takes long to import: nothing else here needs it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click
import msgspec

if TYPE_CHECKING:
    from rich.console import Console

# A pipe has no width: a path must not be cut to fit one.
_PIPE_WIDTH = 10_000


def stdout() -> Console:
    """Return a console on standard output."""
    return _console(on_stderr=False)


def stderr() -> Console:
    """Return a console on standard error."""
    return _console(on_stderr=True)


def _console(*, on_stderr: bool) -> Console:
    from rich.console import Console

    class Pipe(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # the group's to handle, as for any other output

    width = None if (sys.stderr if on_stderr else sys.stdout).isatty() else _PIPE_WIDTH
    return Pipe(stderr=on_stderr, highlight=False, markup=False, emoji=False, width=width)


def is_lively() -> bool:
    """Tell whether standard output is a terminal that can do more than print lines."""
    return sys.stdout.isatty() and os.environ.get("TERM", "") not in {"dumb", "unknown"}


def styled(text: str, **style: bool | str) -> str:
    """Return `text` in a style of `click.style`, if standard output can show it and may."""
    if not is_lively() or os.environ.get("NO_COLOR"):
        return text
    return click.style(text, **style)  # type: ignore[arg-type]


def print_json(value: object) -> None:
    """Print one JSON document, indented."""
    text = msgspec.json.format(msgspec.json.encode(value), indent=2)
    click.echo(text.decode())


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; a column whose title starts with `>` is right-aligned."""
    from rich.table import Table
    from rich.text import Text

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
