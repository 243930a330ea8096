"""Reading shimmy.toml: where it is, what may stand in it, what is written wrongly."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shimmy.cli.settings import experts
from shimmy.cli.settings.known import Setting
from shimmy.config import CONFIG_FILE, parse_duration
from shimmy.errors import ConfigError
from shimmy.models.profile import Profile

_SECTIONS = ("server", "models", "engine", "log", "aliases", "model")
_PROFILE = ("pinned", "preload", "idle_unload", "aliases")


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What a file says: settings by key, aliases and profiles by name."""

    path: Path | None = None
    values: dict[str, object] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    profiles: dict[str, Profile] = field(default_factory=dict)


def find(given: str | None, environ: Mapping[str, str] | None = None) -> Path | None:
    """Return the file to read: of --config, SHIMMY_CONFIG, else the user's, if there is one.

    Raises:
        ConfigError: a file that was named is not there.
    """
    import platformdirs

    named, how = (given, "--config") if given else (CONFIG_FILE.get(environ), CONFIG_FILE.name)
    if named:
        path = Path(named).expanduser()
        if not _is_file(path, unseen=True):
            raise ConfigError(f"{how}: there is no file {path}", param=how)
        return path
    path = platformdirs.user_config_path("shimmy") / "shimmy.toml"
    # in a container the home may be another user's
    return path if _is_file(path, unseen=False) else None


def _is_file(path: Path, *, unseen: bool) -> bool:
    """Whether there is such a file; `unseen` where that may not be looked at."""
    try:
        return path.is_file()
    except OSError:
        return unseen


def read(path: Path, settings: Mapping[str, Setting]) -> Document:
    """Return what the file says.

    Raises:
        ConfigError: it cannot be read, is no TOML, or says what cannot be; names the key.
    """
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", param=str(path)) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}", param=str(path)) from error
    try:
        return _document(path, tree, settings)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}", param=error.param) from error


def _document(path: Path, tree: dict[str, Any], settings: Mapping[str, Setting]) -> Document:
    values: dict[str, object] = {}
    for section, table in tree.items():
        _check(section, _SECTIONS, "section")
        if not isinstance(table, dict):
            raise ConfigError(f"{section} must be a section, [{section}]", param=section)
        if section in {"aliases", "model"}:
            continue
        names = [key.partition(".")[2] for key in settings if key.startswith(f"{section}.")]
        for name, value in table.items():
            _check(name, names, f"key in [{section}]")
            values[f"{section}.{name}"] = settings[f"{section}.{name}"].read(value)
        if section == "engine":
            experts.check(table, "[engine]")
    profiles, aliases = _profiles(tree.get("model", {}), settings)
    for alias, model in tree.get("aliases", {}).items():
        if not isinstance(model, str):
            raise ConfigError(f"aliases.{alias}: expected the name of a model", param="aliases")
        aliases[alias] = model
    return Document(path=path, values=values, aliases=aliases, profiles=profiles)


def _profiles(
    tables: dict[str, Any], settings: Mapping[str, Setting]
) -> tuple[dict[str, Profile], dict[str, str]]:
    names = [key.partition(".")[2] for key in settings if key.startswith("engine.")]
    profiles: dict[str, Profile] = {}
    aliases: dict[str, str] = {}
    for model, table in tables.items():
        where = f'[model."{model}"]'
        if not isinstance(table, dict):
            raise ConfigError(f"model.{model} must be a section, {where}", param="model")
        engine: dict[str, object] = {}
        for name, value in table.items():
            _check(name, [*_PROFILE, *names], f"key in {where}")
            if name in names:
                engine[name] = settings[f"engine.{name}"].read(value)
        experts.check(engine, where)
        profiles[model] = Profile(
            engine=engine,
            pinned=_switch(table, "pinned", where),
            preload=_switch(table, "preload", where),
            idle_unload=_duration(table, where),
        )
        aliases |= dict.fromkeys(_names(table, where), model)
    return profiles, aliases


def _switch(table: dict[str, Any], name: str, where: str) -> bool:
    value = table.get(name, False)
    if not isinstance(value, bool):
        raise ConfigError(f"{where} {name}: expected true or false, got {value!r}", param=name)
    return value


def _duration(table: dict[str, Any], where: str) -> float | None:
    value = table.get("idle_unload")
    if value is None:
        return None
    try:
        return parse_duration(str(value))
    except ValueError as error:
        raise ConfigError(f"{where} idle_unload: {error}", param="idle_unload") from error


def _names(table: dict[str, Any], where: str) -> list[str]:
    names = table.get("aliases", [])
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise ConfigError(f"{where} aliases: expected a list of names", param="aliases")
    return names


def _check(name: str, allowed: Iterable[str], what: str) -> None:
    """Refuse a name that means nothing, with the nearest that does."""
    names = list(allowed)
    if name in names:
        return
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names)}"
    raise ConfigError(f"unknown {what}: {name!r}; {hint}", param=name)
