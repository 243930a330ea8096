from __future__ import annotations

import pytest

from shimmy.config import VARIABLES, ServerConfig
from shimmy.errors import ConfigError


def test_without_variables_the_defaults_hold():
    assert ServerConfig.from_environment({}) == ServerConfig()


def test_every_server_variable_reaches_its_field():
    config = ServerConfig.from_environment(
        {
            "SHIMMY_API_KEY": "one, two",
            "SHIMMY_CORS_ORIGINS": "https://a.example,http://localhost:3000",
            "SHIMMY_ALLOWED_HOSTS": "box.lan",
            "SHIMMY_MAX_BODY_BYTES": "1000",
            "SHIMMY_KEEP_ALIVE": "2.5",
            "SHIMMY_WRITE_TIMEOUT": "7",
            "SHIMMY_DRAIN": "0",
        }
    )
    assert config == ServerConfig(
        api_keys=("one", "two"),
        cors_origins=("https://a.example", "http://localhost:3000"),
        allowed_hosts=("box.lan",),
        max_body_bytes=1000,
        keep_alive=2.5,
        write_timeout=7.0,
        drain=0.0,
    )


def test_an_empty_variable_is_an_unset_one():
    assert ServerConfig.from_environment({"SHIMMY_DRAIN": " "}).drain == ServerConfig().drain


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("SHIMMY_DRAIN", "soon"),
        ("SHIMMY_DRAIN", "-1"),
        ("SHIMMY_KEEP_ALIVE", "inf"),
        ("SHIMMY_WRITE_TIMEOUT", "nan"),
        ("SHIMMY_MAX_BODY_BYTES", "1 MB"),
        ("SHIMMY_MAX_BODY_BYTES", "0"),
    ],
)
def test_a_variable_that_cannot_be_is_named(name, text):
    with pytest.raises(ConfigError, match=name) as caught:
        ServerConfig.from_environment({name: text})
    assert caught.value.param == name


@pytest.mark.parametrize("origin", ["example.com", "https://a.example/", "https://a/b", "null"])
def test_an_origin_is_scheme_and_host(origin):
    with pytest.raises(ConfigError, match="--cors-origin"):
        ServerConfig(cors_origins=(origin,))


@pytest.mark.parametrize("key", ["", "schlüssel", "a\nb"])
def test_a_bad_key_is_refused_and_not_repeated(key):
    with pytest.raises(ConfigError, match="--api-key") as caught:
        ServerConfig(api_keys=(key,))
    assert not key or key not in str(caught.value)


def test_the_table_documents_each_variable_once():
    names = [variable.name for variable in VARIABLES]
    assert len(set(names)) == len(names)
    assert all(
        variable.meaning and name.startswith("SHIMMY_")
        for variable, name in zip(VARIABLES, names, strict=True)
    )
