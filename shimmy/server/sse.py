"""Server-sent events: their bytes, and one open stream of them.

An event is `data: `, one line, and an empty line. JSON never holds a raw line end, so one line is
always enough.
"""

from __future__ import annotations

import asyncio
from typing import Self

from aiohttp import web

DONE = b"data: [DONE]\n\n"
COMMENT = b": keep-alive\n\n"

HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache",
    # nginx would otherwise hold events back until its buffer is full
    "X-Accel-Buffering": "no",
}


def event(payload: bytes) -> bytes:
    """Frame one JSON text."""
    return b"data: %b\n\n" % payload


def named_event(name: str, payload: bytes) -> bytes:
    """Frame one JSON text under a name."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), payload)


class _Response(web.StreamResponse):
    """A response whose headers can wait for what is written first: one packet, and one wake-up of the client."""

    def hold_headers(self) -> None:
        """Send them with the first write."""
        # aiohttp's word for what its own Response does
        self._send_headers_immediately = False


class ClientGoneError(Exception):
    """The client closed the connection, or reads no more."""


class EventStream:
    """A response that is being streamed, opened by `open`, by the first event or by a comment.

    One task per stream, not per token, watches the clock: it writes a comment after `keep_alive`
    seconds of silence, and drops a client that has not read for `write_timeout` seconds.
    """

    def __init__(self, request: web.Request, *, keep_alive: float, write_timeout: float) -> None:
        """Answer `request`; times in seconds, 0 for never."""
        self.response = _Response(headers=HEADERS)
        self._request = request
        self._keep_alive = keep_alive or float("inf")
        self._write_timeout = write_timeout or float("inf")
        self._loop = asyncio.get_running_loop()
        self._quiet_since = self._loop.time()
        self._blocked_since: float | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()
        self.is_open = False
        self._has_headers = False

    async def __aenter__(self) -> Self:
        """Start the clock."""
        self._watcher = self._loop.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop the clock. The end of the body is aiohttp's to write."""
        if self._watcher is not None:
            self._watcher.cancel()

    async def open(self, data: bytes = b"") -> None:
        """Send the headers, if they have not been sent, and `data`: from here on the status is 200.

        Raises:
            ClientGoneError: nobody is there to read.
        """
        self.is_open = True
        async with self._opening:
            if not self._has_headers:
                if data:
                    self.response.hold_headers()
                try:
                    await self.response.prepare(self._request)
                except ConnectionError as error:
                    raise ClientGoneError from error
                self._has_headers = True
        if data:
            await self._write(data)

    async def send(self, data: bytes) -> None:
        """Write events, and wait while the client is too slow to take them.

        Raises:
            ClientGoneError: nobody is there to read.
        """
        if not data:
            return
        if self._has_headers:
            await self._write(data)
        else:
            await self.open(data)

    async def _write(self, data: bytes) -> None:
        self._blocked_since = self._loop.time()
        try:
            await self.response.write(data)
        except ConnectionError as error:
            raise ClientGoneError from error
        self._blocked_since = None
        self._quiet_since = self._loop.time()

    @property
    def takes(self) -> bool:
        """Whether `send_now` may be called: the stream is open, and the client has taken all so far."""
        transport = self._request.transport
        return (
            self._has_headers
            and self._blocked_since is None
            and transport is not None
            and not transport.is_closing()
            and transport.get_write_buffer_size() == 0
        )

    def send_now(self, data: bytes) -> None:
        """Write events without waiting, where the stream `takes` them. The clock goes on by itself."""
        writing = self.response.write(data)
        try:
            # aiohttp waits only for a transport that is full, and this one is empty
            writing.send(None)
        except StopIteration:
            self._quiet_since = self._loop.time()
        except ConnectionError:
            pass  # the handler is cancelled
        else:
            writing.close()
            self._drop()

    async def _watch(self) -> None:
        while True:
            if self._blocked_since is not None:
                due = self._blocked_since + self._write_timeout
            else:
                due = self._quiet_since + self._keep_alive
            # a send may begin at any time, and its timeout may be the shorter of the two
            wait = min(due - self._loop.time(), self._keep_alive, self._write_timeout)
            if wait > 0:
                await asyncio.sleep(min(wait, 3600.0))
            elif self._blocked_since is not None:
                self._drop()
                return
            else:
                await self._comment()

    async def _comment(self) -> None:
        limit = None if self._write_timeout == float("inf") else self._write_timeout
        try:
            async with asyncio.timeout(limit):
                await self.send(COMMENT)
        except TimeoutError:
            self._drop()
        except ClientGoneError:
            # the handler finds out by itself; nothing is left to watch
            self._keep_alive = float("inf")

    def _drop(self) -> None:
        """Cut the connection: aiohttp then cancels the handler, which ends the generation."""
        transport = self._request.transport
        if transport is not None:
            transport.abort()
