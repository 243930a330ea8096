"""`shimmy config`."""

from __future__ import annotations

import math
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

import click

from shimmy.cli.commands.serve import command as serve
from shimmy.cli.flags import GlobalFlags

if TYPE_CHECKING:
    from shimmy.cli.settings.resolve import Settings

# flags of `serve` that no file holds
_OTHERS = {"alias", "verbose"}


@click.command(name="config")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def command(ctx: click.Context, /, *, as_json: bool, **values: Any) -> None:
    """Show every setting, its value and where it comes from.

    Takes the flags of `shimmy serve`, and shows what would hold with them.
    """
    from shimmy.cli.settings.resolve import given, resolve

    names = {item.name for item in fields(GlobalFlags)}
    later = GlobalFlags(**{name: values.pop(name) for name in names})
    before = ctx.parent.obj if ctx.parent is not None else None
    flags = (before or GlobalFlags()).merged(later)
    settings = resolve(flags.config, given({**values, **asdict(flags)}))
    settings.server()  # what cannot be is said here as `serve` would
    if as_json:
        _print_json(settings)
    else:
        _print(settings)


command.params += [param for param in serve.params if param.name not in _OTHERS]


def _print(settings: Settings) -> None:
    from shimmy.cli.console import print_table

    click.echo(f"file: {settings.path or 'none'}\n")
    rows = [(key, _shown(settings, key), item.source) for key, item in settings.values.items()]
    file = str(settings.path)
    rows += [(f"aliases.{name}", model, file) for name, model in settings.aliases.items()]
    for name, profile in settings.profiles.items():
        rows += [(f"model.{name}.{key}", _text(value), file) for key, value in _set(profile)]
    print_table(("SETTING", "VALUE", "SOURCE"), rows)


def _print_json(settings: Settings) -> None:
    from shimmy.cli.console import print_json

    values = {
        key: {
            "value": _shown(settings, key) if settings.settings[key].is_secret else item.value,
            "source": item.source,
        }
        for key, item in settings.values.items()
    }
    print_json(
        {
            "file": str(settings.path) if settings.path else None,
            "settings": values,
            "aliases": settings.aliases,
            "models": {name: dict(_set(item)) for name, item in settings.profiles.items()},
        }
    )


def _set(profile: Any) -> list[tuple[str, Any]]:
    """Return what a model's section says."""
    said = list(profile.engine.items())
    said += [(name, True) for name in ("pinned", "preload") if getattr(profile, name)]
    if profile.idle_unload is not None:
        said.append(("idle_unload", profile.idle_unload))
    return said


def _shown(settings: Settings, key: str) -> str:
    value = settings[key]
    if settings.settings[key].is_secret:
        return f"{len(value)} set" if value else "none"
    return _text(value)


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    if value == math.inf:
        return "never"
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value) or "-"
    return str(value)
