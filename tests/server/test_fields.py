from __future__ import annotations

import msgspec
import pytest

from shimmy.server.dialects.fields import check_tree, decode
from shimmy.server.errors import FieldError


class Inner(msgspec.Struct):
    text: str


class Body(msgspec.Struct):
    items: list[Inner]
    count: int | None = None
    ratio: float | None = None
    flag: bool | None = None
    free: dict[str, object] | None = None


decoder = msgspec.json.Decoder(Body)


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        (b"{}", "items", "missing_required_parameter"),
        (b'{"items":[{}]}', "items[0].text", "missing_required_parameter"),
        (b'{"items":{}}', "items", "invalid_type"),
        (b'{"items":[{"text":"a"},{"text":1}]}', "items[1].text", "invalid_type"),
        (b'{"items":[],"count":"3"}', "count", "invalid_type"),
        (b'{"items":[],"count":true}', "count", "invalid_type"),
        (b'{"items":[],"count":1.5}', "count", "invalid_type"),
        (b'{"items":[],"ratio":false}', "ratio", "invalid_type"),
        (b'{"items":[],"ratio":1e999}', "ratio", "invalid_type"),
        (b'{"items":[],"ratio":' + b"9" * 400 + b"}", "ratio", "invalid_type"),
        (b'{"items":[],"flag":1}', "flag", "invalid_type"),
        (b'{"items":[],"flag":"true"}', "flag", "invalid_type"),
        (b"[]", None, "invalid_type"),
        (b'"x"', None, "invalid_type"),
        (b"null", None, "invalid_type"),
        (b"", None, "invalid_json"),
        (b"{", None, "invalid_json"),
        (b'{"items":[],}', None, "invalid_json"),
        (b'{"items":[]} {}', None, "invalid_json"),
        (b'{"items":[],"ratio":NaN}', None, "invalid_json"),
        (b'{"items":[],"ratio":Infinity}', None, "invalid_json"),
        (b'{"items":[{"text":"\xff"}]}', None, "invalid_json"),
        (b'{"items":[{"text":"\\ud800"}]}', None, "invalid_json"),
        (b'{"items":[],"free":{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}}", None, "invalid_json"),
        (b'{"items":[],"unknown":' + b"[" * 100_000 + b"]" * 100_000 + b"}", None, "invalid_json"),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_what_is_wrong_is_named(body, param, code):
    with pytest.raises(FieldError) as caught:
        decode(decoder, body)
    assert (caught.value.param, caught.value.code) == (param, code)
    if param:
        assert param in caught.value.message


@pytest.mark.parametrize("body", [b"", b" \n"])
def test_a_body_that_is_empty_is_called_empty(body):
    with pytest.raises(FieldError, match="the body is empty: send a JSON object"):
        decode(decoder, body)


def test_unknown_fields_are_accepted():
    assert decode(decoder, b'{"items":[],"whatever":[{"a":NULL}]}'.replace(b"NULL", b"null"))


def test_whole_numbers_are_numbers():
    assert decode(decoder, b'{"items":[],"ratio":1}').ratio == 1.0


@pytest.mark.parametrize("value", [{"a": [{"b": [1, "x", None, True, 2**64 - 1]}]}, [], 5])
def test_free_json_may_be_any_shape(value):
    check_tree(value, "f")


def test_free_json_has_a_depth_limit():
    value: object = 1
    for _ in range(80):
        value = [value]
    with pytest.raises(FieldError, match="nested"):
        check_tree(value, "f")


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1])
def test_free_json_must_fit_the_wire(number):
    with pytest.raises(FieldError, match="too large"):
        check_tree({"a": {"b": number}}, "f")
