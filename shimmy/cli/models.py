"""What commands that take a model have in common."""

from __future__ import annotations

from pathlib import Path

import click

from shimmy.cli.flags import GlobalFlags
from shimmy.errors import ConfigError, ModelNotFoundError
from shimmy.models.discovery import not_folders, search_roots
from shimmy.models.entry import ModelEntry
from shimmy.models.registry import Registry, register


def registry(
    flags: GlobalFlags, *, model_path: Path | None = None, alias: str | None = None
) -> Registry:
    """Return the registry that the flags describe, or else the environment or shimmy.toml.

    Of the folders that they name those that are none are said on standard error.
    """
    listed, source = folders(flags)
    for path in not_folders(listed or ""):
        what = "is a file: name its folder" if path.exists() else "does not exist"
        click.echo(f"warning: {source}: {path} {what}", err=True)
    return Registry.standard(model_path=model_path, roots=search_roots(listed), alias=alias)


def folders(flags: GlobalFlags) -> tuple[str | None, str]:
    """Return the folders that somebody named, in one text, and by what they were named."""
    from shimmy.cli.settings.resolve import resolve

    if flags.model_dirs is not None:
        return flags.model_dirs, "--model-dirs"
    setting = resolve(flags.config, {}).values["models.dirs"]
    return setting.value, setting.source


def find(flags: GlobalFlags, name: str | None) -> ModelEntry:
    """Return the model called `name`, or the file `name`; None is the default model.

    A file is taken if the text looks like a path or no model has that name.
    """
    if name is None:
        return default(registry(flags))
    path = Path(name).expanduser()
    if _like_path(name) and _is_there(path):
        return register(path)
    try:
        return registry(flags).resolve(name)
    except ModelNotFoundError:
        if _is_there(path) or name.lower().endswith(".gguf") or path.is_absolute():
            return register(path)
        raise


def _is_there(path: Path) -> bool:
    """Whether there is such a file; one that may not be looked at is, for reading it says why."""
    try:
        return path.exists()
    except OSError:
        return True


def _like_path(name: str) -> bool:
    return name.lower().endswith(".gguf") or "/" in name or "\\" in name


def default(models: Registry) -> ModelEntry:
    """Return the default model.

    Raises:
        ConfigError: there is none.
    """
    if not models.entries():
        raise ConfigError(
            "there is no model: put a .gguf file into ./models, or give the path of one"
        )
    return models.resolve(None)
