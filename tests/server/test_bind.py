from __future__ import annotations

import errno
import socket
import subprocess
import sys

import pytest

from shimmy.errors import ConfigError
from shimmy.server import bind
from shimmy.server import bind as bind_function
from shimmy.server.bind import is_loopback, parse_address


@pytest.fixture(autouse=True)
def no_variable(monkeypatch):
    monkeypatch.delenv("SHIMMY_BIND_ADDRESS", raising=False)


@pytest.fixture
def taken():
    """A port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock.getsockname()[1]


def test_the_package_exports_the_function_though_a_module_has_its_name():
    assert callable(bind_function)


def test_it_needs_no_http_library():
    """`shimmy serve --help` imports this module."""
    code = "import sys, shimmy.server.bind; sys.exit('aiohttp' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_auto_takes_a_loopback_port_of_the_range():
    with bind("auto") as sock:
        host, port = sock.getsockname()
        assert host == "127.0.0.1"
        assert 11435 <= port <= 11535 or port > 1023


def test_auto_takes_the_next_free_port():
    with bind("auto") as first, bind("auto") as second:
        assert second.getsockname()[1] > first.getsockname()[1]


def test_auto_falls_back_to_any_port(monkeypatch):
    real = socket.socket.bind
    tried = []

    def refuse(self, address):
        tried.append(address[1])
        if address[1] != 0:
            raise OSError(errno.EADDRINUSE, "in use")
        real(self, address)

    monkeypatch.setattr(socket, "socket", type("Refusing", (socket.socket,), {"bind": refuse}))
    with bind("auto") as sock:
        assert sock.getsockname()[1] > 0
    assert tried == [*range(11435, 11536), 0]


def test_auto_obeys_the_variable(monkeypatch, taken):
    monkeypatch.setenv("SHIMMY_BIND_ADDRESS", "127.0.0.1:0")
    with bind("auto") as sock:
        assert not 11435 <= sock.getsockname()[1] <= 11535
    monkeypatch.setenv("SHIMMY_BIND_ADDRESS", f"127.0.0.1:{taken}")
    with pytest.raises(ConfigError) as caught:
        bind("auto")
    assert caught.value.param == "SHIMMY_BIND_ADDRESS"


def test_the_variable_may_say_auto(monkeypatch):
    monkeypatch.setenv("SHIMMY_BIND_ADDRESS", "auto")
    with bind("auto") as sock:
        assert sock.getsockname()[0] == "127.0.0.1"


def test_the_socket_listens_so_that_nobody_else_gets_the_port():
    with bind("127.0.0.1:0") as sock:
        port = sock.getsockname()[1]
        with pytest.raises(ConfigError, match="in use"):
            bind(f"127.0.0.1:{port}")
        # a client can already connect, though nobody accepts yet
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            pass


def test_a_taken_port_is_an_error_that_names_the_flag(taken):
    with pytest.raises(ConfigError, match=f"--bind.*127.0.0.1:{taken}.*in use") as caught:
        bind(f"127.0.0.1:{taken}")
    assert caught.value.param == "--bind"


@pytest.mark.parametrize(
    "spec",
    ["", "8080", "127.0.0.1", ":8080", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:65536",
     "127.0.0.1:-1", "127.0.0.1:٣", "::1:8080", "[]:80", "AUTO"],
)  # fmt: skip
def test_a_spec_that_makes_no_sense_is_an_error_that_names_the_flag(spec):
    with pytest.raises(ConfigError, match="--bind") as caught:
        bind(spec)
    assert caught.value.param == "--bind"


def test_an_unknown_host_is_an_error():
    with pytest.raises(ConfigError, match="no address for host"):
        bind("no-such-host.invalid:80")


def test_an_address_of_another_machine_is_an_error():
    with pytest.raises(ConfigError, match="does not have that address"):
        bind("192.0.2.1:8080")


def test_ipv6_hosts_stand_in_brackets():
    assert parse_address("[::1]:8080", "--bind") == ("::1", 8080)


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_an_ipv6_address_is_bound():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    with bind("[::1]:0") as sock:
        assert sock.family == socket.AF_INET6
        assert is_loopback(sock)


def test_localhost_is_the_ipv4_loopback():
    with bind("localhost:0") as sock:
        assert sock.getsockname()[0] == "127.0.0.1"
        assert is_loopback(sock)


def test_all_interfaces_are_not_loopback():
    with bind("0.0.0.0:0") as sock:
        assert not is_loopback(sock)
