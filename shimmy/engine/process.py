"""A worker in a process of its own, spoken to over its stdin and stdout."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING, cast

from shimmy.engine.types.frame import (
    HEADER,
    MAX_FRAME,
    Close,
    Command,
    decode_report,
    encode_frame,
)

if TYPE_CHECKING:
    from shimmy.engine.transport import Listener

_CLOSE_SECONDS = 10.0


class ProcessTransport(asyncio.SubprocessProtocol):
    """A `python -m shimmy.worker` child. Its stderr is ours; it ends when our end of stdin closes."""

    def __init__(self) -> None:
        """Nothing runs before `start`."""
        self._listener: Listener | None = None
        self._transport: asyncio.SubprocessTransport | None = None
        self._stdin: asyncio.WriteTransport | None = None
        self._buffer = bytearray()
        self._ended = asyncio.Event()

    async def start(self, listener: Listener) -> None:
        """Start the process."""
        self._listener = listener
        # A session of its own: Ctrl-C in the terminal is the parent's to interpret.
        transport, _ = await asyncio.get_running_loop().subprocess_exec(
            lambda: self,
            sys.executable,
            "-P",
            "-m",
            "shimmy.worker",
            stderr=None,
            start_new_session=True,
        )
        self._transport = transport
        self._stdin = cast("asyncio.WriteTransport", transport.get_pipe_transport(0))

    @property
    def pid(self) -> int | None:
        """The child's process id while it lives."""
        if self._transport is None or self._ended.is_set():
            return None
        return self._transport.get_pid()

    def send(self, command: Command) -> None:
        """Write one frame; a pipe that is closed means that `on_end` is on its way."""
        if self._stdin is not None and not self._stdin.is_closing():
            self._stdin.write(encode_frame(command))

    async def close(self) -> None:
        """Ask the worker to end, then make it."""
        if self._transport is None or self._ended.is_set():
            return
        self._listener = None
        self.send(Close())
        if self._stdin is not None:
            self._stdin.close()
        try:
            await asyncio.wait_for(self._ended.wait(), _CLOSE_SECONDS)
        except TimeoutError:
            self.kill()
            await self._ended.wait()
        self._transport.close()

    def kill(self) -> None:
        """End the process at once."""
        if self._transport is not None and not self._ended.is_set():
            try:
                self._transport.kill()
            except ProcessLookupError:
                return

    def pipe_data_received(self, fd: int, data: bytes) -> None:  # noqa: ARG002  only stdout is a pipe
        """Cut stdout into frames and pass them on."""
        buffer = self._buffer
        buffer += data
        at = 0
        while len(buffer) - at >= HEADER.size:
            (size,) = HEADER.unpack_from(buffer, at)
            if size > MAX_FRAME:
                self.kill()
                return
            end = at + HEADER.size + size
            if len(buffer) < end:
                break
            if self._listener is not None:
                self._listener.on_report(decode_report(bytes(buffer[at + HEADER.size : end])))
            at = end
        del buffer[:at]

    def process_exited(self) -> None:
        """Note the end; `connection_lost` follows once the pipes are drained."""
        self._ended.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  told by the exit code
        """Tell the listener, after the last frame."""
        self._ended.set()
        how = self._how()
        if self._transport is not None:
            self._transport.close()
        if self._listener is not None:
            listener, self._listener = self._listener, None
            listener.on_end(how)

    def _how(self) -> str:
        code = self._transport.get_returncode() if self._transport is not None else None
        if code is None:
            return "its pipe broke"
        if code < 0:
            try:
                name = signal.Signals(-code).name
            except ValueError:
                name = str(-code)
            return f"killed by signal {name}"
        return f"ended with exit code {code}"
