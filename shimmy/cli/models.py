"""What commands that take a model have in common."""

from __future__ import annotations

from pathlib import Path

from shimmy.cli.flags import GlobalFlags
from shimmy.errors import ConfigError, ModelNotFoundError
from shimmy.models.discovery import search_roots
from shimmy.models.entry import ModelEntry
from shimmy.models.registry import Registry, register


def registry(
    flags: GlobalFlags, *, model_path: Path | None = None, alias: str | None = None
) -> Registry:
    """Return the registry that the flags describe, or else the environment or shimmy.toml."""
    from shimmy.cli.settings.resolve import resolve

    folders = flags.model_dirs
    if folders is None:
        folders = resolve(flags.config, {})["models.dirs"]
    return Registry.standard(model_path=model_path, roots=search_roots(folders), alias=alias)


def find(flags: GlobalFlags, name: str | None) -> ModelEntry:
    """Return the model called `name`, or the file `name`; None is the default model.

    A file is taken if the text looks like a path or no model has that name.
    """
    if name is None:
        return default(registry(flags))
    path = Path(name).expanduser()
    if _like_path(name) and path.exists():
        return register(path)
    try:
        return registry(flags).resolve(name)
    except ModelNotFoundError:
        if path.exists() or name.lower().endswith(".gguf") or path.is_absolute():
            return register(path)
        raise


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
