"""Where a server is: its URL as people write it, with or without /v1."""

from __future__ import annotations

from urllib.parse import urlsplit

from shimmy.errors import ConfigError


def root_of(url: str) -> str:
    """Return the URL without a slash or /v1 at its end.

    Raises:
        ConfigError: it is not one of http or https.
    """
    try:
        parts = urlsplit(url)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or parts.query or parts.fragment:
        raise ConfigError(
            f"{url!r} is not the URL of a server; write it as http://127.0.0.1:11435", param="url"
        )
    return url.rstrip("/").removesuffix("/v1").rstrip("/")
