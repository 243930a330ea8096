"""One row of the error table each."""

from __future__ import annotations

import json

import pytest
from aiohttp import web

from shimmy import errors
from shimmy.server.dialects.openai import error_body
from shimmy.server.errors import AuthenticationError, FieldError, ForbiddenError, problem_of


def answer(error: Exception) -> tuple[int, dict, dict]:
    problem = problem_of(error, "req_1")
    return problem.status, json.loads(error_body(problem))["error"], dict(problem.headers)


def test_invalid_request_is_400_and_names_the_field():
    assert answer(errors.InvalidRequestError("top_p is off", param="top_p")) == (
        400,
        {
            "message": "top_p is off",
            "type": "invalid_request_error",
            "param": "top_p",
            "code": "invalid_request",
        },
        {},
    )


def test_field_error_keeps_its_code():
    status, body, _ = answer(FieldError("no", param="a[0].b", code="invalid_type"))
    assert (status, body["code"], body["param"]) == (400, "invalid_type", "a[0].b")


def test_context_overflow_has_both_spellings_and_the_numbers():
    status, body, headers = answer(errors.ContextLengthError(5000, 4096, param="messages"))
    assert (status, headers) == (400, {})
    assert body["code"] == "context_length_exceeded"
    assert body["type"] == "exceed_context_size_error"
    assert (body["n_prompt_tokens"], body["n_ctx"]) == (5000, 4096)
    assert body["param"] == "messages"


def test_unknown_model_is_404_and_lists_the_others():
    status, body, _ = answer(errors.ModelNotFoundError("x", ["a", "b"]))
    assert status == 404
    assert body == {
        "message": "Model 'x' not found. Available models: ['a', 'b']",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }


def test_missing_key_is_401():
    status, body, headers = answer(AuthenticationError("no API key"))
    assert (status, body["code"], headers) == (
        401,
        "invalid_api_key",
        {"WWW-Authenticate": "Bearer"},
    )


def test_forbidden_is_403():
    status, body, _ = answer(ForbiddenError("no", code="forbidden_host"))
    assert (status, body["type"], body["code"]) == (403, "permission_error", "forbidden_host")


@pytest.mark.parametrize(("seconds", "header"), [(0.2, "1"), (1.0, "1"), (2.1, "3")])
def test_overload_is_429_with_retry_after_in_whole_seconds(seconds, header):
    status, body, headers = answer(errors.OverloadedError("busy", retry_after=seconds))
    assert (status, body["type"], body["code"]) == (429, "rate_limit_error", "overloaded")
    assert headers == {"Retry-After": header}


@pytest.mark.parametrize(
    "kind",
    [
        errors.EngineLoadingError,
        errors.EngineDeadError,
        errors.EngineClosedError,
        errors.LoadCancelledError,
    ],
)
def test_an_engine_that_will_be_back_is_503_with_retry_after(kind):
    status, body, headers = answer(kind("not now"))
    assert (status, body["type"], body["code"]) == (503, "unavailable_error", kind.code)
    assert headers == {"Retry-After": "1"}


@pytest.mark.parametrize("kind", [errors.ModelLoadError, errors.BackendError])
def test_a_model_that_cannot_be_loaded_is_500_and_not_to_be_retried(kind):
    status, body, headers = answer(kind("bad file", log=("magic is wrong",)))
    assert (status, body["type"], body["code"]) == (500, "server_error", kind.code)
    assert "magic is wrong" in body["message"]
    assert headers == {"x-should-retry": "false"}


@pytest.mark.parametrize("kind", [errors.DecodeError, errors.NativeAbortError, errors.ShimmyError])
def test_other_faults_of_ours_are_500_with_their_code(kind):
    status, body, _ = answer(kind("oops"))
    assert (status, body["message"], body["code"]) == (500, "oops", kind.code)


def test_an_unexpected_error_says_nothing_but_the_request_id():
    status, body, _ = answer(ZeroDivisionError("secret path /home/me"))
    assert (status, body["code"]) == (500, "internal_error")
    assert "req_1" in body["message"]
    assert "secret" not in body["message"]


def test_a_wrong_method_keeps_its_allow_header():
    status, body, headers = answer(web.HTTPMethodNotAllowed("PUT", ["POST", "GET"]))
    assert (status, body["code"]) == (405, "method_not_allowed")
    assert headers == {"Allow": "GET,POST"}
    assert "GET, POST" in body["message"]
