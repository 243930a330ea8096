"""Settings of the server, and the one table of the environment variables that shimmy reads.

Flags win over variables, variables over defaults. A value that cannot be is a `ConfigError` that
names the flag or the variable; nothing is ever silently replaced.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

from shimmy.errors import ConfigError

T = TypeVar("T")

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable(Generic[T]):
    """One environment variable: how its text is read, and what holds without it."""

    name: str
    default: T
    parse: Callable[[str], T]
    meaning: str

    def get(self, environ: Mapping[str, str] | None = None) -> T:
        """Return its value; unset and empty mean the default.

        Raises:
            ConfigError: the text cannot be read; names the variable.
        """
        text = (os.environ if environ is None else environ).get(self.name, "").strip()
        if not text:
            return self.default
        try:
            return self.parse(text)
        except ValueError as error:
            raise ConfigError(f"{self.name}={text!r}: {error}", param=self.name) from error


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for part in text.split(",") if (word := part.strip()))


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError("expected a number of seconds, such as 10 or 0.5") from None


def _bytes(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("expected a whole number of bytes") from None


NO_WORDS: tuple[str, ...] = ()

BIND_ADDRESS = Variable(
    name="SHIMMY_BIND_ADDRESS",
    default="",
    parse=str,
    meaning="HOST:PORT that --bind auto takes before it looks for a free port",
)
API_KEYS = Variable(
    name="SHIMMY_API_KEY",
    default=NO_WORDS,
    parse=_words,
    meaning="keys that clients must send, separated by commas; none: no key is asked for",
)
CORS_ORIGINS = Variable(
    name="SHIMMY_CORS_ORIGINS",
    default=NO_WORDS,
    parse=_words,
    meaning="web origins that may call, such as https://chat.example, by commas; '*' is all",
)
ALLOWED_HOSTS = Variable(
    name="SHIMMY_ALLOWED_HOSTS",
    default=NO_WORDS,
    parse=_words,
    meaning="further Host names answered on a loopback address, by commas; '*' is all",
)
MAX_BODY_BYTES = Variable(
    name="SHIMMY_MAX_BODY_BYTES",
    default=32 * MIB,
    parse=_bytes,
    meaning="largest request body, in bytes",
)
KEEP_ALIVE = Variable(
    name="SHIMMY_KEEP_ALIVE",
    default=10.0,
    parse=_seconds,
    meaning="seconds of silence after which a stream gets a comment; 0: never",
)
WRITE_TIMEOUT = Variable(
    name="SHIMMY_WRITE_TIMEOUT",
    default=60.0,
    parse=_seconds,
    meaning="seconds after which a client that reads nothing is dropped; 0: never",
)
DRAIN = Variable(
    name="SHIMMY_DRAIN",
    default=30.0,
    parse=_seconds,
    meaning="seconds that running requests get to finish after SIGTERM",
)
BASE_GGUF = Variable(
    name="SHIMMY_BASE_GGUF",
    default="",
    parse=str,
    meaning="a GGUF file to serve; its folder is searched as well",
)
MODEL_PATHS = Variable(
    name="SHIMMY_MODEL_PATHS",
    default="",
    parse=str,
    meaning="further folders to search for models, separated by ';' on every system",
)

VARIABLES: tuple[Variable[str] | Variable[int] | Variable[float] | Variable[tuple[str, ...]], ...]
VARIABLES = (
    BIND_ADDRESS,
    API_KEYS,
    CORS_ORIGINS,
    ALLOWED_HOSTS,
    MAX_BODY_BYTES,
    KEEP_ALIVE,
    WRITE_TIMEOUT,
    DRAIN,
    BASE_GGUF,
    MODEL_PATHS,
)
"""Every `SHIMMY_*` variable that is read anywhere, in the order in which documents list them."""


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
