"""What holds: flags over the environment, that over shimmy.toml, that over the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import msgspec

from shimmy.cli.settings import experts
from shimmy.cli.settings.document import Document, find, read
from shimmy.cli.settings.known import Setting, known
from shimmy.config import MMAP, ServerConfig
from shimmy.models.budget import Budget
from shimmy.models.profile import Profile
from shimmy.server.bind import join_address


@dataclass(frozen=True, slots=True)
class Value:
    """A value and where it comes from: `default`, a file, a variable or a flag."""

    value: Any
    source: str

    @property
    def is_default(self) -> bool:
        """Whether nobody said anything."""
        return self.source == "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings, resolved; `path` is the file that was read, None if there was none."""

    path: Path | None
    settings: Mapping[str, Setting]
    values: Mapping[str, Value]
    aliases: Mapping[str, str]
    profiles: Mapping[str, Profile]

    def __getitem__(self, key: str) -> Any:
        """Return the value of a setting, such as `models.max`."""
        return self.values[key].value

    def engine(self) -> dict[str, Any]:
        """Return the fields of `EngineOptions` that somebody set."""
        return {
            key.partition(".")[2]: value.value
            for key, value in self.values.items()
            if key.startswith("engine.") and not value.is_default
        }

    def server(self) -> ServerConfig:
        """Return how the HTTP side behaves.

        Raises:
            ConfigError: a value that cannot be.
        """
        names = [item.name for item in fields(ServerConfig)]
        return ServerConfig(**{name: _tupled(self[f"server.{name}"]) for name in names})

    def budget(self) -> Budget:
        """Return how many models may be loaded at once."""
        return Budget(max_models=self["models.max"], memory=self["models.memory"])

    def spec(self) -> str:
        """Return where to listen, as --bind takes it."""
        bind, host, port = (self.values[f"server.{name}"] for name in ("bind", "host", "port"))
        if bind.source == str(self.path):
            return str(bind.value)
        if bind.is_default and not (host.is_default and port.is_default):
            return join_address(host.value, port.value)
        return "auto"  # which reads its variable itself, and names it when it is wrong


def given(flags: Mapping[str, object]) -> dict[str, object]:
    """Return the flags that were given by the keys of their settings; `flags` are by parameter."""
    named = {item.flag.name: item for item in known().values() if item.flag is not None}
    return {
        named[name].key: value
        for name, value in flags.items()
        if name in named and _is_given(named[name], value)
    }


def _is_given(setting: Setting, value: object) -> bool:
    """Whether a flag was given: a plain one that is off was not, one with a --no- may have been."""
    if value is False:
        return setting.flag is not None and bool(setting.flag.secondary_opts)
    return value is not None and value != ()


def resolve(
    config: str | None,
    given: Mapping[str, object],
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Return what holds; `given` are the flags that were given, by key. Reads the file of `config`.

    A model's own section gives way to flags and variables as the general one does.

    Raises:
        ConfigError: the file or a variable cannot be read, or says what cannot be.
    """
    settings = known()
    path = find(config, environ)
    document = read(path, settings) if path is not None else Document()
    values = {key: _value(setting, document, given, environ) for key, setting in settings.items()}
    values |= _without_rival(values, str(path))
    outranked = {
        key.partition(".")[2]
        for key, value in values.items()
        if key.startswith("engine.") and value.source not in {"default", str(path)}
    }
    if outranked & experts.FIELDS:
        outranked |= experts.FIELDS
    profiles = {
        model: msgspec.structs.replace(
            profile,
            engine={
                name: item
                for name, item in experts.alone(profile.engine).items()
                if name not in outranked
            },
        )
        for model, profile in document.profiles.items()
    }
    return Settings(
        path=path,
        settings=settings,
        values=values,
        aliases=document.aliases,
        profiles=profiles,
    )


def _without_rival(values: Mapping[str, Value], path: str) -> dict[str, Value]:
    """Return what a flag for the experts' place makes of the file's other word for it."""
    said = {
        name: value
        for name, value in ((name, values[f"engine.{name}"]) for name in experts.FIELDS)
        if not value.is_default
    }
    if len({value.source for value in said.values()}) < 2:
        return {}
    return {
        f"engine.{name}": Value(experts.UNSAID[name], "default")
        for name, value in said.items()
        if value.source == path
    }


def _value(
    setting: Setting,
    document: Document,
    given: Mapping[str, object],
    environ: Mapping[str, str] | None,
) -> Value:
    if setting.key in given:
        return Value(given[setting.key], setting.flag_name)
    if setting.variable is not None and (found := setting.variable.found(environ)) is not None:
        return Value(found[1], found[0])
    if setting.key == "engine.load_mode" and (found := MMAP.found(environ)) is not None:
        return Value("mmap" if found[1] else "none", found[0])
    if setting.key in document.values:
        return Value(document.values[setting.key], str(document.path))
    return Value(setting.default, "default")


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
