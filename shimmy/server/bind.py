"""The listening socket: bound once and kept, so that nobody takes the port in between."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket

from shimmy.config import BIND_ADDRESS
from shimmy.errors import ConfigError

LOOPBACK = "127.0.0.1"
DEFAULT_PORT = 11435
LAST_PORT = 11535

_BACKLOG = 1024


def bind(spec: str) -> socket.socket:
    """Return a listening socket for `spec`: "auto", or HOST:PORT with IPv6 hosts in brackets.

    "auto" takes `SHIMMY_BIND_ADDRESS` where it is set, else the first free port of 11435 to 11535
    on 127.0.0.1, else any free port. Port 0 is any free port. The socket listens at once: clients
    that come before `serve` wait in its queue.

    Raises:
        ConfigError: the spec makes no sense, or its address cannot be had; names --bind or the
            variable.
    """
    if spec != "auto":
        return _bind_explicit(spec, "--bind")
    address = BIND_ADDRESS.get()
    if address and address != "auto":
        return _bind_explicit(address, BIND_ADDRESS.name)
    for port in (*range(DEFAULT_PORT, LAST_PORT + 1), 0):
        try:
            return _listen(socket.AF_INET, (LOOPBACK, port))
        except OSError as error:
            if error.errno not in {errno.EADDRINUSE, errno.EACCES}:
                raise _refused(f"{LOOPBACK}:{port}", "--bind", error) from error
    raise ConfigError(f"no free port on {LOOPBACK}; give one with --bind", param="--bind")


def join_address(host: str | None, port: int | None) -> str:
    """Return HOST:PORT, with what is missing as "auto" begins; an IPv6 host goes in brackets."""
    host = host or LOOPBACK
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return f"{host}:{DEFAULT_PORT if port is None else port}"


def is_loopback(sock: socket.socket) -> bool:
    """Tell whether only this machine can reach `sock`."""
    if sock.family not in {socket.AF_INET, socket.AF_INET6}:
        return True
    host: str = sock.getsockname()[0]
    return ipaddress.ip_address(host.partition("%")[0]).is_loopback


def parse_address(spec: str, param: str) -> tuple[str, int]:
    """Split HOST:PORT; an IPv6 host loses its brackets.

    Raises:
        ConfigError: it has another form; `param` names where it came from.
    """
    host, colon, port = spec.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ConfigError(
            f"{param}: {spec!r}: an IPv6 address goes in brackets, as in [::1]:{DEFAULT_PORT}",
            param=param,
        )
    if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ConfigError(
            f"{param}: expected auto or HOST:PORT (such as {LOOPBACK}:{DEFAULT_PORT}), "
            f"got {spec!r}",
            param=param,
        )
    return host, int(port)


def _bind_explicit(spec: str, param: str) -> socket.socket:
    host, port = parse_address(spec, param)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"{param}: no address for host {host!r}: {error}; give an IP address or localhost",
            param=param,
        ) from error
    # IPv4 first: "localhost" means 127.0.0.1 to most of our clients
    family, _, _, _, address = min(found, key=lambda info: info[0] != socket.AF_INET)
    try:
        return _listen(family, address)
    except OSError as error:
        raise _refused(spec, param, error) from error


def _listen(family: int, address: tuple[str | int, ...] | tuple[int, bytes]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            # a restart need not wait for old connections; elsewhere this would share the port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        # with SO_REUSEADDR two sockets may bind one port as long as neither listens
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _refused(spec: str, param: str, error: OSError) -> ConfigError:
    reasons = {
        errno.EADDRINUSE: "the port is in use; choose another, or --bind auto for a free one",
        errno.EACCES: "no permission for this port; choose one above 1023",
        errno.EADDRNOTAVAIL: "this machine does not have that address",
    }
    reason = reasons.get(error.errno or 0, error.strerror or str(error))
    return ConfigError(f"{param}: cannot listen on {spec}: {reason}", param=param)
