"""The events of a streamed message: one block is open at a time, and closed before the next."""

from __future__ import annotations

from shimmy.engine.types.event import Delta, Finished, Usage
from shimmy.errors import ShimmyError
from shimmy.server.dialects.anthropic.answer import (
    SIGNATURE,
    call_head,
    ending,
    message_head,
    usage_body,
)
from shimmy.server.dialects.anthropic.errors import error_event
from shimmy.server.dialects.openai import encode_json
from shimmy.server.dialects.parts import Kind, Part, Parts
from shimmy.server.dialects.types import Call, Head
from shimmy.server.errors import Problem
from shimmy.server.sse import named_event

_PING = named_event("ping", b'{"type":"ping"}')
_STOP = named_event("message_stop", b'{"type":"message_stop"}')

# kind of part: (type, field) of its deltas
_DELTAS: dict[Kind, tuple[bytes, bytes]] = {
    "reasoning": (b"thinking_delta", b"thinking"),
    "text": (b"text_delta", b"text"),
    "call": (b"input_json_delta", b"partial_json"),
}


def stream(call: Call, head: Head) -> MessageStream:
    """Return the encoder of one stream."""
    return MessageStream(call, head)


class MessageStream:
    """Events of one message."""

    def __init__(self, call: Call, head: Head) -> None:
        """Begin with no block."""
        self._call = call
        self._head = head
        self._parts = Parts()
        self._open: Part | None = None
        self._index = -1
        self._delta_begin = b""

    def opening(self) -> bytes:
        """Return `message_start`, and the ping that follows it at Anthropic's."""
        # how much of it is in the cache is not known yet; `message_delta` says so
        usage = Usage(prompt_tokens=self._head.prompt_tokens, completion_tokens=0)
        message = {
            **message_head(self._head),
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage_body(usage),
        }
        start = encode_json({"type": "message_start", "message": message})
        return named_event("message_start", start) + _PING

    def delta(self, delta: Delta) -> bytes:
        """Return the new pieces, and the blocks' beginnings and ends between them."""
        out = []
        for part, piece in self._parts.add(delta):
            if part is not self._open:
                out.append(self._next(part))
            if piece:
                out.append(self._delta_begin + encode_json(piece) + b"}}\n\n")
        return b"".join(out)

    def finish(self, finished: Finished) -> bytes:
        """Return the last block's end, the reason with the counts, and `message_stop`."""
        # an answer without a word has an empty text
        opened = b"" if self._open else self._next(Part(kind="text"))
        body = {
            "type": "message_delta",
            "delta": ending(self._call, finished),
            "usage": usage_body(finished.usage),
        }
        return opened + self._close() + named_event("message_delta", encode_json(body)) + _STOP

    def error(self, problem: Problem) -> bytes:
        """Return the error event."""
        return error_event(problem)

    def _next(self, part: Part) -> bytes:
        """Close the open block and begin that of `part`."""
        if self._open is not None and part is not self._parts.all[-1]:
            raise ShimmyError("the engine went back to an earlier tool call")
        closed = self._close()
        self._open = part
        self._index += 1
        kind, field = _DELTAS[part.kind]
        self._delta_begin = (
            b"event: content_block_delta\n"
            b'data: {"type":"content_block_delta","index":%d,"delta":{"type":"%b","%b":'
            % (self._index, kind, field)
        )
        start = {
            "type": "content_block_start",
            "index": self._index,
            "content_block": self._empty(part),
        }
        return closed + named_event("content_block_start", encode_json(start))

    def _empty(self, part: Part) -> dict[str, object]:
        if part.kind == "reasoning":
            return {"type": "thinking", "thinking": "", "signature": ""}
        if part.kind == "text":
            return {"type": "text", "text": ""}
        return {**call_head(part, self._head), "input": {}}

    def _close(self) -> bytes:
        if self._open is None:
            return b""
        signed = b""
        if self._open.kind == "reasoning":
            delta = {"type": "signature_delta", "signature": SIGNATURE}
            body = {"type": "content_block_delta", "index": self._index, "delta": delta}
            signed = named_event("content_block_delta", encode_json(body))
        stop = {"type": "content_block_stop", "index": self._index}
        return signed + named_event("content_block_stop", encode_json(stop))
