"""What happens to every request around its handler: an id, a log line, and errors as JSON."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Handler

from shimmy.server import guard
from shimmy.server.dialects import anthropic, openai
from shimmy.server.errors import Problem, problem_of
from shimmy.server.keys import ACTIVITY, COUNTS, TRACE
from shimmy.server.tongue import is_anthropic
from shimmy.server.trace import Trace

log = logging.getLogger(__name__)
access = logging.getLogger("shimmy.access")

# nginx's word for a client that went away before it had its answer
CLIENT_GONE = 499


@web.middleware
async def note(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request an id, count it while it runs, and log one line about it."""
    trace = request[TRACE] = Trace.begin(request.headers.get("x-request-id"))
    started = time.perf_counter()
    status = CLIENT_GONE
    try:
        with request.app[ACTIVITY].request():
            response = await handler(request)
        if not trace.client_gone:
            status = response.status
        return response
    finally:
        request.app[COUNTS].answered(request, status)
        # raw_path is still percent-encoded: no line ends to forge log lines with
        access.log(
            logging.DEBUG if request.path == "/health" else logging.INFO,
            "%s %s %d %.1f ms %s tokens %s",
            request.method,
            request.rel_url.raw_path,
            status,
            (time.perf_counter() - started) * 1e3,
            "-" if trace.n_tokens is None else trace.n_tokens,
            trace.id,
        )


@web.middleware
async def report(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error in the endpoint's form; nothing is thrown past here but cancellation."""
    try:
        return await handler(request)
    except ConnectionError:
        # nobody is left to answer; aiohttp closes the connection
        raise
    except Exception as error:  # noqa: BLE001 - the last place where it can become an answer
        trace = request[TRACE]
        problem = problem_of(error, trace.id)
        log_problem(problem, error, trace.id)
        return web.Response(
            status=problem.status,
            body=(trace.error_form or _error_form(request))(problem),
            content_type="application/json",
            headers=problem.headers,
        )


def _error_form(request: web.Request) -> Callable[[Problem], bytes]:
    """Return the form of errors that no endpoint had its word on: no key, no such path."""
    return anthropic.error_body if is_anthropic(request) else openai.error_body


def log_problem(problem: Problem, error: Exception, request_id: str) -> None:
    """Log a fault of ours; with its traceback if it has no name. Clients' faults are theirs."""
    if not problem.is_ours:
        return
    known = problem.message == getattr(error, "message", None)
    log.error("request %s: %s", request_id, problem.message, exc_info=None if known else error)


async def decorate(request: web.Request, response: web.StreamResponse) -> None:
    """Set the headers that every response has, streams included."""
    trace = request.get(TRACE)
    if trace is not None:
        response.headers["x-request-id"] = trace.id
        # Anthropic's name for it
        response.headers["request-id"] = trace.id
    response.headers["Server"] = "shimmy"
    response.headers["X-Content-Type-Options"] = "nosniff"
    guard.add_cors(request, response)
