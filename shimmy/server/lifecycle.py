"""Running the application until a signal: open at once, drained at the end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aiohttp import web

from shimmy.config import ServerConfig
from shimmy.server.bind import is_loopback
from shimmy.server.keys import ACTIVITY, CONFIG, ON_LOOPBACK, POOL

log = logging.getLogger(__name__)

# Seconds for handlers whose requests were just given up, to write their error and return.
_LAST_WORDS = 2.0

# Seconds in which a repeated signal is an echo: `timeout` and some supervisors signal the process and its group.
_ECHO = 0.05


async def serve(app: web.Application, sock: socket.socket, config: ServerConfig) -> None:
    """Serve on `sock` until SIGTERM or SIGINT, then let running requests finish and return.

    They get `config.drain` seconds; those still running then end with an error. A second signal
    ends the process at once, with 128 and the signal's number as its status.
    """
    app[ON_LOOPBACK] = is_loopback(sock)
    if not app[ON_LOOPBACK] and not app[CONFIG].api_keys:
        log.warning("open to the network without an API key: whoever reaches it can use it")
    stop = asyncio.Event()
    runner = make_runner(app)
    with _signals(stop):
        await runner.setup()
        try:
            await web.SockSite(runner, sock, backlog=1024).start()
            await stop.wait()
            await _drain(app, runner, config.drain)
        finally:
            await runner.cleanup()


def make_runner(app: web.Application) -> web.AppRunner:
    """Return a runner that cancels a handler when its client leaves."""
    return web.AppRunner(
        app, handler_cancellation=True, access_log=None, shutdown_timeout=_LAST_WORDS
    )


async def _drain(app: web.Application, runner: web.AppRunner, seconds: float) -> None:
    """Take no new connections or requests; wait for the running ones, then give them up."""
    for site in list(runner.sites):
        await site.stop()
    if runner.server is not None:
        # ends idle keep-alive connections, and the others after their answer
        runner.server.pre_shutdown()
    activity = app[ACTIVITY]
    activity.draining = True
    if activity.n_active:
        log.info("finishing %d requests, for up to %g s", activity.n_active, seconds)
    if not await _within(seconds, activity.idle):
        log.warning("giving up %d requests", activity.n_active)
        await app[POOL].close()
        await _within(_LAST_WORDS, activity.idle)


async def _within(seconds: float, event: asyncio.Event) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


@contextmanager
def _signals(stop: asyncio.Event) -> Iterator[None]:
    """Set `stop` at the first SIGTERM or SIGINT; exit at the second."""
    loop = asyncio.get_running_loop()
    first = 0.0

    def on_signal(number: int) -> None:
        nonlocal first
        if stop.is_set():
            if loop.time() - first < _ECHO:
                return
            print("shimmy: second signal, ending at once", file=sys.stderr, flush=True)  # noqa: T201
            # workers end by themselves when their pipes close
            os._exit(128 + number)
        log.info("%s: shutting down", signal.Signals(number).name)
        first = loop.time()
        stop.set()

    numbers = (signal.SIGINT, signal.SIGTERM)
    undo = [_on_signal(number, on_signal) for number in numbers]
    try:
        yield
    finally:
        for restore in undo:
            restore()


def _on_signal(number: int, call: Callable[[int], None]) -> Callable[[], object]:
    """Have the loop call `call(number)` on a signal; return what undoes it."""
    loop = asyncio.get_running_loop()
    try:
        loop.add_signal_handler(number, call, number)
    except NotImplementedError:  # Windows

        def handle(got: int, _frame: object) -> None:
            loop.call_soon_threadsafe(call, got)

        previous = signal.signal(number, handle)
        return lambda: signal.signal(number, previous)
    return lambda: loop.remove_signal_handler(number)
