"""Settings of the HTTP side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from shimmy.config.variables import (
    ALLOWED_HOSTS,
    API_KEYS,
    CORS_ORIGINS,
    DRAIN,
    KEEP_ALIVE,
    MAX_BODY_BYTES,
    WRITE_TIMEOUT,
)
from shimmy.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """How the HTTP side behaves; times in seconds, sizes in bytes. The address is `bind`'s.

    The fields mean what `VARIABLES` says of `SHIMMY_` and their name in capitals.

    Raises:
        ConfigError: a value that cannot be; `param` names the flag, or the variable if it has none.
    """

    api_keys: tuple[str, ...] = API_KEYS.default
    cors_origins: tuple[str, ...] = CORS_ORIGINS.default
    allowed_hosts: tuple[str, ...] = ALLOWED_HOSTS.default
    max_body_bytes: int = MAX_BODY_BYTES.default
    keep_alive: float = KEEP_ALIVE.default
    write_timeout: float = WRITE_TIMEOUT.default
    drain: float = DRAIN.default

    def __post_init__(self) -> None:
        if self.max_body_bytes < 1:
            raise _bad(MAX_BODY_BYTES.name, "must be at least 1", self.max_body_bytes)
        for variable, value in (
            (KEEP_ALIVE, self.keep_alive),
            (WRITE_TIMEOUT, self.write_timeout),
            (DRAIN, self.drain),
        ):
            if not 0 <= value < float("inf"):
                raise _bad(variable.name, "must be 0 or more seconds", value)
        for key in self.api_keys:
            if not key or not key.isascii() or not key.isprintable():
                # never repeat a key: the message may end up in a log
                raise ConfigError("--api-key: a key must be printable ASCII", param="--api-key")
        for origin in self.cors_origins:
            if origin != "*" and ("://" not in origin or origin.count("/") != 2):
                raise _bad("--cors-origin", "must be like https://host[:port], or *", origin)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Return what the `SHIMMY_*` variables say; flags go on top with `dataclasses.replace`.

        Raises:
            ConfigError: a variable cannot be read.
        """
        return cls(
            api_keys=API_KEYS.get(environ),
            cors_origins=CORS_ORIGINS.get(environ),
            allowed_hosts=ALLOWED_HOSTS.get(environ),
            max_body_bytes=MAX_BODY_BYTES.get(environ),
            keep_alive=KEEP_ALIVE.get(environ),
            write_timeout=WRITE_TIMEOUT.get(environ),
            drain=DRAIN.get(environ),
        )


def _bad(name: str, rule: str, value: object) -> ConfigError:
    return ConfigError(f"{name} {rule}, got {value!r}", param=name)
