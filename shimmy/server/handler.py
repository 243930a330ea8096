"""The one way from a body to an answer, whatever the dialect.

body → dialect → engine request → events → dialect → JSON or a stream. Leaving, by an error or
because the client left, closes the generation, which cancels it in the worker.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from aiohttp import web

from shimmy.engine.generation import Generation
from shimmy.engine.types.event import Accepted, Delta, Finished
from shimmy.errors import ContextLengthError, ShimmyError
from shimmy.server.dialects.types import Dialect, Head, Output, StreamEncoder
from shimmy.server.errors import FieldError, problem_of
from shimmy.server.keys import CONFIG, POOL, TRACE
from shimmy.server.middleware import log_problem
from shimmy.server.reply import json_response
from shimmy.server.sse import ClientGoneError, EventStream
from shimmy.server.trace import Trace


def handle(dialect: Dialect) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Return the handler of an endpoint that speaks `dialect`."""

    async def generate(request: web.Request) -> web.StreamResponse:
        trace = request[TRACE]
        trace.error_form = dialect.error_body
        call = dialect.parse(await _read(request))
        async with request.app[POOL].use(call.model) as lease:
            head = Head(id=dialect.new_id(), created=int(time.time()), model=lease.entry.name)
            async with lease.engine.generate(call.request) as generation:
                await _accepted(generation, call.prompt_field)
                if call.stream:
                    return await _stream(request, generation, dialect.stream(call, head))
                output = await _collect(generation, trace)
                return json_response(dialect.encode(head, output))

    return generate


async def _read(request: web.Request) -> bytes:
    """Return the body, whatever its content type says it is."""
    try:
        return await request.read()
    except (web.RequestPayloadError, UnicodeError) as error:
        raise FieldError(
            f"the body cannot be read: {error}", param=None, code="invalid_body"
        ) from error


async def _accepted(generation: Generation, prompt_field: str) -> None:
    """Wait until the engine has taken the request; an error up to here has a status of its own."""
    try:
        event = await anext(generation, None)
    except ContextLengthError as error:
        # the engine has a prompt, and no idea what clients call it
        error.param = error.param or prompt_field
        raise
    if not isinstance(event, Accepted):
        raise _broken(event)


async def _collect(generation: Generation, trace: Trace) -> Output:
    output = Output()
    async for event in generation:
        if isinstance(event, Delta):
            output.add(event)
        elif isinstance(event, Finished):
            trace.n_tokens = event.usage.completion_tokens
            output.finished = event
            return output
    raise _broken(None)


async def _stream(
    request: web.Request, generation: Generation, encoder: StreamEncoder
) -> web.StreamResponse:
    config = request.app[CONFIG]
    stream = EventStream(request, keep_alive=config.keep_alive, write_timeout=config.write_timeout)
    try:
        async with stream:
            await _pump(stream, generation, encoder, request[TRACE])
    except ClientGoneError:
        request[TRACE].client_gone = True
    return stream.response


async def _pump(
    stream: EventStream, generation: Generation, encoder: StreamEncoder, trace: Trace
) -> None:
    """Send events as they come; those that wait together go out in one write."""
    parts = [encoder.opening()]
    n_tokens = 0
    try:
        if not _n_queued(generation):
            await stream.send(parts.pop())
        async for event in generation:
            if isinstance(event, Delta):
                n_tokens += event.n_tokens
                parts.append(encoder.delta(event))
            elif isinstance(event, Finished):
                trace.n_tokens = event.usage.completion_tokens
                parts.append(encoder.finish(event))
                await stream.send(b"".join(parts))
                return
            if not _n_queued(generation):
                await stream.send(b"".join(parts))
                parts.clear()
        raise _broken(None)
    except ClientGoneError:
        raise
    except Exception as error:  # noqa: BLE001 - the status is out: the stream must carry it
        problem = problem_of(error, trace.id)
        log_problem(problem, error, trace.id)
        await stream.send(b"".join([*parts, encoder.error(problem)]))
    finally:
        if trace.n_tokens is None:
            trace.n_tokens = n_tokens


def _n_queued(generation: Generation) -> int:
    """Return how many events can be had without waiting, where the generation tells."""
    n: int = getattr(generation, "n_queued", 0)
    return n


def _broken(event: object) -> ShimmyError:
    got = "nothing" if event is None else type(event).__name__
    return ShimmyError(f"the engine ended the request out of turn, with {got}")
