"""Every setting there is: its key in shimmy.toml, its flag, its variable, its default.

A setting that has a flag of `shimmy serve` is read as that flag is, wherever it comes from.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, get_type_hints

import click
import msgspec

from shimmy import config
from shimmy.config import AnyVariable, ServerConfig
from shimmy.engine.types.options import LOG_LEVELS, EngineOptions
from shimmy.errors import ConfigError

_ENGINE_VARIABLES: dict[str, AnyVariable] = {
    "n_ctx": config.MAX_CTX,
    "n_threads": config.CPU_THREADS,
    "n_batch": config.PREFILL_CHUNK,
    "cache_type_k": config.KV_QUANT,
    "cache_type_v": config.KV_QUANT,
    "rope_freq_scale": config.ROPE_SCALE,
    "gpu_backend": config.GPU_BACKEND,
}
_SERVER_VARIABLES: dict[str, AnyVariable] = {
    "bind": config.BIND_ADDRESS,
    "host": config.HOST,
    "port": config.PORT,
    "api_keys": config.API_KEYS,
    "cors_origins": config.CORS_ORIGINS,
    "allowed_hosts": config.ALLOWED_HOSTS,
    "max_body_bytes": config.MAX_BODY_BYTES,
    "keep_alive": config.KEEP_ALIVE,
    "write_timeout": config.WRITE_TIMEOUT,
    "drain": config.DRAIN,
}
# key: (flag of serve, variable)
_MODELS: dict[str, tuple[str, AnyVariable]] = {
    "path": ("model_path", config.MODEL),
    "dirs": ("model_dirs", config.MODEL_PATHS),
    "max": ("models_max", config.MODELS_MAX),
    "memory": ("models_memory", config.MAX_MEMORY),
    "idle_unload": ("idle_unload", config.IDLE_UNLOAD),
}
_NOT_FOR_FILES = {"model_path", "log_level", "log_format"}
_SECRET = {"server.api_keys"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting; `kind` is its type where it has no flag."""

    key: str
    default: object
    kind: Any = None
    flag: click.Parameter | None = None
    variable: AnyVariable | None = None

    @property
    def is_secret(self) -> bool:
        """Whether its value must not be shown."""
        return self.key in _SECRET

    @property
    def flag_name(self) -> str:
        """The flag's long name."""
        return max(self.flag.opts, key=len) if self.flag is not None else ""

    def read(self, value: object) -> object:
        """Return what a value of a file means.

        Raises:
            ConfigError: it cannot be; says what could.
        """
        try:
            if self.flag is not None:
                return _as_flag(self.flag, value)
            return msgspec.convert(value, self.kind)
        except (click.BadParameter, msgspec.ValidationError, ValueError) as error:
            said = error.message if isinstance(error, click.BadParameter) else str(error)
            raise ConfigError(f"{self.key}: {said}", param=self.key) from error


def known() -> dict[str, Setting]:
    """Return all settings by their keys."""
    from shimmy.cli.commands.serve import command

    flags = {param.name or "": param for param in command.params}
    settings = [*_server(flags), *_models(flags), *_engine(flags)]
    settings += [
        _one_of("log.level", LOG_LEVELS, config.LOG_LEVEL),
        _one_of("log.format", config.LOG_FORMATS, config.LOG_FORMAT),
    ]
    return {setting.key: setting for setting in settings}


def _server(flags: dict[str, click.Parameter]) -> Iterator[Setting]:
    hints = get_type_hints(ServerConfig)
    defaults = {item.name: item.default for item in fields(ServerConfig)}
    for name, variable in _SERVER_VARIABLES.items():
        yield Setting(
            key=f"server.{name}",
            default=defaults.get(name, "auto" if name == "bind" else None),
            kind=hints.get(name),
            flag=flags.get(name),
            variable=variable,
        )


def _models(flags: dict[str, click.Parameter]) -> Iterator[Setting]:
    for name, (flag, variable) in _MODELS.items():
        default = variable.default or None if name in {"path", "dirs"} else variable.default
        yield Setting(key=f"models.{name}", default=default, flag=flags[flag], variable=variable)


def _engine(flags: dict[str, click.Parameter]) -> Iterator[Setting]:
    hints = get_type_hints(EngineOptions)
    for field in msgspec.structs.fields(EngineOptions):
        if field.name not in _NOT_FOR_FILES:
            default = (
                field.default_factory() if field.default is msgspec.NODEFAULT else field.default
            )
            yield Setting(
                key=f"engine.{field.name}",
                default=default,
                kind=hints[field.name],
                flag=flags.get(field.name),
                variable=_ENGINE_VARIABLES.get(field.name),
            )


def _one_of(key: str, words: tuple[str, ...], variable: config.Variable[str]) -> Setting:
    from typing import Literal

    return Setting(key=key, default=variable.default, kind=Literal[words], variable=variable)


def _as_flag(flag: click.Parameter, value: object) -> object:
    """Read a value as if it had been given with the flag; a list is given as often, or by commas."""
    if isinstance(flag, click.Option) and flag.is_flag:
        if not isinstance(value, bool):
            raise click.BadParameter(f"expected true or false, got {value!r}")
        return value
    items = value if isinstance(value, list) else [value]
    if any(isinstance(item, bool | dict | list) for item in items):
        raise click.BadParameter(f"expected what {max(flag.opts, key=len)} takes, got {value!r}")
    texts = [str(item) for item in items]
    if flag.multiple:
        found: Any = tuple(flag.type.convert(text, flag, None) for text in texts)
    else:
        separator = ";" if flag.name == "model_dirs" else ","
        found = flag.type.convert(separator.join(texts), flag, None)
    if flag.callback is not None:
        context = click.Context(click.Command("shimmy.toml"))
        found = flag.callback(context, flag, found)
        if inspect.isawaitable(found):
            raise TypeError("a flag's callback is no coroutine")
    return found
