"""The one way from a body to an answer, whatever the dialect.

body → dialect → engine request → events → dialect → JSON or a stream. Leaving, by an error or
because the client left, closes the generation, which cancels it in the worker.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from aiohttp import web

from shimmy.engine.types.event import Delta, Finished
from shimmy.models.defaults import with_defaults
from shimmy.server.dialects.types import Call, Dialect, Head, Output, StreamEncoder
from shimmy.server.errors import FieldError, problem_of
from shimmy.server.holding import hold
from shimmy.server.keys import CONFIG, COUNTS, TRACE
from shimmy.server.metrics.stopwatch import Stopwatch
from shimmy.server.middleware import log_problem
from shimmy.server.reply import json_response
from shimmy.server.run import Run, broken
from shimmy.server.seams import Lease
from shimmy.server.sse import ClientGoneError, EventStream
from shimmy.server.trace import Trace


def handle(dialect: Dialect) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Return the handler of an endpoint that speaks `dialect`."""

    async def generate(request: web.Request) -> web.StreamResponse:
        request[TRACE].error_form = dialect.error_body
        return await answer(request, dialect, dialect.parse(await read_body(request)))

    return generate


async def answer(request: web.Request, dialect: Dialect, call: Call) -> web.StreamResponse:
    """Return what the model says to `call`, in one piece or as a stream."""
    if call.stream:
        return await _stream(request, dialect, call)
    with Stopwatch(request.app[COUNTS]) as watch:
        async with (
            hold(request, call) as (lease, left),
            Run(lease.engine, _meant(left, lease)) as run,
        ):
            watch.on(lease.entry.name, call.request.n)
            head = _head(dialect, lease.entry.name, await run.accepted())
            output = await _collect(run, call, request[TRACE], watch)
    return json_response(dialect.encode(call, head, output))


def _meant(call: Call, lease: Lease) -> Call:
    """Return `call` with what its model's store says where the body says nothing."""
    entry = lease.entry
    if not entry.parameters and not entry.system:
        return call
    first, *more = (
        with_defaults(each, entry.parameters, entry.system, limited=not call.default_limit)
        for each in (call.request, *call.more)
    )
    return replace(call, request=first, more=tuple(more))


def _head(dialect: Dialect, model: str, prompt_tokens: int) -> Head:
    return Head(
        id=dialect.new_id(), created=int(time.time()), model=model, prompt_tokens=prompt_tokens
    )


async def read_body(request: web.Request) -> bytes:
    """Return the body, whatever its content type says it is."""
    try:
        return await request.read()
    except (web.RequestPayloadError, UnicodeError) as error:
        raise FieldError(
            f"the body cannot be read: {error}", param=None, code="invalid_body"
        ) from error


async def _collect(run: Run, call: Call, trace: Trace, watch: Stopwatch) -> Output:
    output = Output(call.request.n * (1 + len(call.more)), n_prompts=1 + len(call.more))

    def take(event: Delta) -> bool:
        watch.delta(event)
        output.add(event)
        return True

    run.tap(take)
    async for event in run:
        if isinstance(event, Delta):
            watch.delta(event)
            output.add(event)
        elif isinstance(event, Finished):
            watch.finish(event)
            output.finish(event)
            if event.last:
                trace.n_tokens = output.total.usage.completion_tokens
                if call.best is not None:
                    output.keep_best(call.best)
                return output
    raise broken(None)


async def _stream(request: web.Request, dialect: Dialect, call: Call) -> web.StreamResponse:
    """Stream the answer. An error has a status of its own as long as nothing has been sent.

    What is sent first is the answer's beginning, when the engine has taken the request, or a
    comment, when that takes long: while a model is being loaded, say.
    """
    config = request.app[CONFIG]
    stream = EventStream(request, keep_alive=config.keep_alive, write_timeout=config.write_timeout)
    encoder: StreamEncoder | None = None
    trace = request[TRACE]
    try:
        async with stream:
            try:
                with Stopwatch(request.app[COUNTS]) as watch:
                    async with (
                        hold(request, call) as (lease, left),
                        Run(lease.engine, _meant(left, lease)) as run,
                    ):
                        watch.on(lease.entry.name, call.request.n)
                        head = _head(dialect, lease.entry.name, await run.accepted())
                        encoder = dialect.stream(call, head)
                        await _pump(stream, run, encoder, trace, watch)
            except ClientGoneError:
                raise
            except Exception as error:
                if not stream.is_open:
                    raise
                problem = problem_of(error, trace.id)
                log_problem(problem, error, trace.id)
                if encoder is None:
                    encoder = dialect.stream(call, _head(dialect, call.model or "", 0))
                await stream.send(encoder.error(problem))
    except ClientGoneError:
        trace.client_gone = True
    return stream.response


async def _pump(
    stream: EventStream, run: Run, encoder: StreamEncoder, trace: Trace, watch: Stopwatch
) -> None:
    """Send events as they come; those that wait together go out in one write.

    A delta that finds an idle client goes out from where it arrives, without waking this task.
    """
    parts = [encoder.opening()]
    n_tokens = n_counted = 0

    def take(event: Delta) -> bool:
        nonlocal n_tokens
        if parts or not stream.takes:
            return False
        if data := encoder.delta(event):
            stream.send_now(data)
        watch.delta(event)
        n_tokens += event.n_tokens
        return True

    try:
        if not run.n_queued:
            await stream.open(parts.pop())
        run.tap(take)
        async for event in run:
            if isinstance(event, Delta):
                watch.delta(event)
                n_tokens += event.n_tokens
                parts.append(encoder.delta(event))
            elif isinstance(event, Finished):
                watch.finish(event)
                parts.append(encoder.finish(event))
                n_counted += event.usage.completion_tokens
                if event.last:
                    n_tokens = n_counted
                    await stream.send(b"".join(parts))
                    return
            if not run.n_queued:
                await stream.send(b"".join(parts))
                parts.clear()
        raise broken(None)
    except ClientGoneError:
        raise
    except Exception:
        # what came before the error is true
        await stream.send(b"".join(parts))
        raise
    finally:
        trace.n_tokens = n_tokens
