"""Which error becomes which HTTP answer: the one table, for all dialects.

    error                 status  type                        retry
    FieldError            400     invalid_request_error       no
    InvalidRequestError   400     invalid_request_error       no
    ContextLengthError    400     exceed_context_size_error   no (both spellings: type and code)
    AuthenticationError   401     authentication_error        no
    ForbiddenError        403     permission_error            no
    NotFoundError         404     invalid_request_error       no
    ModelNotFoundError    404     invalid_request_error       no
    OverloadedError       429     rate_limit_error            Retry-After
    SlowReaderError       408     invalid_request_error       in streams only
    UnsupportedError      400     not_supported_error         not switched on here
    DeadlineError         503     unavailable_error           Retry-After: its timeout ended in the queue
    EngineLoadingError    503     unavailable_error           Retry-After
    EngineDeadError       503     unavailable_error           Retry-After: the worker is restarted
    EngineClosedError     503     unavailable_error           Retry-After: unloading or shutting down
    LoadCancelledError    503     unavailable_error           Retry-After
    ModelLoadError        500     server_error                x-should-retry: false
    BackendError          500     server_error                x-should-retry: false
    other ShimmyErrors    500     server_error                as the client likes
    anything else         500     server_error                as the client likes

SDKs send 408, 409, 429 and every 5xx again. A file that cannot be loaded is the server's fault,
so not a 4xx, but will not load the second time either: `x-should-retry: false` tells them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from aiohttp import web

from shimmy import errors

_NO_RETRY = {"x-should-retry": "false"}


class FieldError(errors.InvalidRequestError):
    """A request field that cannot be; `code` says in which way."""

    def __init__(self, message: str, *, param: str | None, code: str) -> None:
        """Keep all three; `param` is the field's path, such as `messages[0].content`."""
        super().__init__(message, param=param)
        self.code = code


class NotFoundError(errors.InvalidRequestError):
    """Something that was asked for by its id is not there; `code` says what."""

    def __init__(self, message: str, *, param: str | None, code: str) -> None:
        """Keep all three; `param` is the name of the id."""
        super().__init__(message, param=param)
        self.code = code


class AuthenticationError(errors.ShimmyError):
    """No API key, or a wrong one."""

    code = "invalid_api_key"


class ForbiddenError(errors.ShimmyError):
    """A request that a browser was led to send."""

    def __init__(self, message: str, *, code: str) -> None:
        """Keep both."""
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """An error as every dialect can write it; `extra` goes beside `message` in the body."""

    status: int
    type: str
    code: str | None
    message: str
    param: str | None = None
    request_id: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_ours(self) -> bool:
        """Whether the server, not the client, is at fault."""
        return self.status >= 500


# The first class that fits wins: derived classes stand before their bases.
_RULES: tuple[tuple[type[errors.ShimmyError], int, str], ...] = (
    (errors.ContextLengthError, 400, "exceed_context_size_error"),
    (NotFoundError, 404, "invalid_request_error"),
    (errors.ModelNotFoundError, 404, "invalid_request_error"),
    (errors.InvalidRequestError, 400, "invalid_request_error"),
    (AuthenticationError, 401, "authentication_error"),
    (ForbiddenError, 403, "permission_error"),
    (errors.OverloadedError, 429, "rate_limit_error"),
    (errors.SlowReaderError, 408, "invalid_request_error"),
    (errors.UnsupportedError, 400, "not_supported_error"),
    (errors.DeadlineError, 503, "unavailable_error"),
    (errors.EngineLoadingError, 503, "unavailable_error"),
    (errors.EngineDeadError, 503, "unavailable_error"),
    (errors.EngineClosedError, 503, "unavailable_error"),
    (errors.LoadCancelledError, 503, "unavailable_error"),
    (errors.ShimmyError, 500, "server_error"),
)

_HTTP_CODES = {404: "unknown_url", 405: "method_not_allowed", 413: "request_too_large"}


def problem_of(error: Exception, request_id: str) -> Problem:
    """Return what to tell the client about `error`. Nothing of an unexpected one but the id."""
    if isinstance(error, web.HTTPException):
        return _of_http(error, request_id)
    if not isinstance(error, errors.ShimmyError):
        return Problem(
            status=500,
            type="server_error",
            code=errors.ShimmyError.code,
            message=f"internal error; the server's log has it under {request_id}",
            request_id=request_id,
        )
    status, kind = next((status, kind) for cls, status, kind in _RULES if isinstance(error, cls))
    return Problem(
        status=status,
        type=kind,
        code=error.code,
        message=error.message,
        param=getattr(error, "param", None),
        request_id=request_id,
        headers=_headers(error, status),
        extra=_extra(error),
    )


def _headers(error: errors.ShimmyError, status: int) -> dict[str, str]:
    if isinstance(error, errors.OverloadedError):
        return {"Retry-After": str(max(1, math.ceil(error.retry_after)))}
    if status == 503:
        return {"Retry-After": "1"}
    if isinstance(error, errors.ModelLoadError | errors.BackendError):
        return _NO_RETRY
    if isinstance(error, AuthenticationError):
        return {"WWW-Authenticate": "Bearer"}
    return {}


def _extra(error: errors.ShimmyError) -> dict[str, int]:
    if isinstance(error, errors.ContextLengthError):
        return {"n_prompt_tokens": error.n_prompt_tokens, "n_ctx": error.n_ctx}
    return {}


def _of_http(error: web.HTTPException, request_id: str) -> Problem:
    """Describe what aiohttp itself refused: a path, a method, a body too large."""
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    message = error.reason
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        message = f"method {error.method} is not allowed here; allowed: {allowed}"
    elif isinstance(error, web.HTTPNotFound):
        message = "there is nothing at this path; GET / lists the endpoints"
    elif isinstance(error, web.HTTPRequestEntityTooLarge):
        message = error.text or message
    return Problem(
        status=error.status,
        type="server_error" if error.status >= 500 else "invalid_request_error",
        code=_HTTP_CODES.get(error.status),
        message=message,
        request_id=request_id,
        headers=headers,
    )
