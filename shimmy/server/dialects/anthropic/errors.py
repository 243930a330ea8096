"""Anthropic's error object: its types by status, as its SDKs and tools know them."""

from __future__ import annotations

from shimmy.server.dialects.openai import encode_json
from shimmy.server.errors import Problem
from shimmy.server.sse import named_event

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def error_body(problem: Problem) -> bytes:
    """Return the JSON body of an error."""
    other = "api_error" if problem.is_ours else "invalid_request_error"
    return encode_json(
        {
            "type": "error",
            "error": {
                "type": _TYPES.get(problem.status, other),
                "message": _message(problem),
            },
            "request_id": problem.request_id,
        }
    )


def error_event(problem: Problem) -> bytes:
    """Return an error within a stream; nothing follows it."""
    return named_event("error", error_body(problem))


def _message(problem: Problem) -> str:
    if problem.code != "context_length_exceeded":
        return problem.message
    # the words by which agents know that they have to shorten the conversation
    n, n_ctx = problem.extra["n_prompt_tokens"], problem.extra["n_ctx"]
    return f"prompt is too long: {n} tokens > {n_ctx} maximum; {problem.message}"
