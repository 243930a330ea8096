"""The events of a streamed response: numbered, and each saying which item and part it is of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from shimmy.engine.types.event import Delta, Finished
from shimmy.errors import ShimmyError
from shimmy.server.dialects.logprobs import chat_logprobs
from shimmy.server.dialects.openai import encode_json
from shimmy.server.dialects.parts import Kind, Part, Parts
from shimmy.server.dialects.responses import answer
from shimmy.server.dialects.types import Call, Head
from shimmy.server.errors import Problem
from shimmy.server.sse import named_event

_NAMES: dict[Kind, str] = {
    "text": "response.output_text",
    "reasoning": "response.reasoning_text",
    "call": "response.function_call_arguments",
}


class ResponseStream:
    """Events of one response; `keep` gets the response at its end."""

    def __init__(self, call: Call, head: Head, keep: Callable[[dict[str, Any]], None]) -> None:
        """Begin with no item."""
        self._call = call
        self._head = head
        self._keep = keep
        self._parts = Parts()
        self._open: Part | None = None
        self._index = -1
        self._n_events = 0
        self._n_scored = 0

    def opening(self) -> bytes:
        """Return `response.created` and `response.in_progress`."""
        body = {"response": answer.begun(self._call, self._head)}
        return self._event("response.created", body) + self._event("response.in_progress", body)

    def delta(self, delta: Delta) -> bytes:
        """Return the new pieces, and the items' beginnings and ends between them."""
        out = []
        for part, piece in self._parts.add(delta):
            if part is not self._open:
                out.append(self._next(part))
            if piece:
                out.append(self._piece(part, piece))
        return b"".join(out)

    def finish(self, finished: Finished) -> bytes:
        """Return the last item's end, and the response as it ended."""
        cut = finished.reason == "length"
        opened = b"" if self._open else self._next(Part(kind="text"))
        closed = self._close("incomplete" if cut else "completed")
        response = answer.finished(self._call, self._head, self._parts.all, finished)
        self._keep(response)
        end = "response.incomplete" if cut else "response.completed"
        return opened + closed + self._event(end, {"response": response})

    def error(self, problem: Problem) -> bytes:
        """Return `error`, in the old and the new form, and `response.failed` if one was created."""
        created = self._n_events > 0
        words = {"code": problem.code, "message": problem.message, "param": problem.param}
        # SDKs raise what has an `error` within; others look for the words beside `type`
        said = self._event("error", {**words, "error": {"type": problem.type, **words}})
        if not created:
            return said
        response = answer.failed(self._call, self._head, self._parts.all, problem)
        self._keep(response)
        return said + self._event("response.failed", {"response": response})

    def _next(self, part: Part) -> bytes:
        """Close the open item and begin that of `part`."""
        if self._open is not None and part is not self._parts.all[-1]:
            raise ShimmyError("the engine went back to an earlier tool call")
        out = self._close("completed")
        self._open = part
        self._index += 1
        self._n_scored = 0
        out += self._item_event("response.output_item.added", part, "in_progress")
        if part.kind != "call":
            empty = {"part": answer.content_of(Part(kind=part.kind))}
            out += self._event("response.content_part.added", empty, part)
        return out

    def _piece(self, part: Part, piece: str) -> bytes:
        body: dict[str, object] = {"delta": piece}
        if part.kind == "text":
            body["logprobs"] = chat_logprobs(part.logprobs[self._n_scored :])["content"]
            self._n_scored = len(part.logprobs)
        return self._event(f"{_NAMES[part.kind]}.delta", body, part)

    def _close(self, status: str) -> bytes:
        part = self._open
        if part is None:
            return b""
        name = f"{_NAMES[part.kind]}.done"
        if part.kind == "call":
            out = self._event(name, {"arguments": part.text}, part)
        else:
            content = answer.content_of(part)
            words: dict[str, object] = {
                key: content[key] for key in ("text", "logprobs") if key in content
            }
            out = self._event(name, words, part)
            out += self._event("response.content_part.done", {"part": content}, part)
        return out + self._item_event("response.output_item.done", part, status)

    def _item_event(self, name: str, part: Part, status: str) -> bytes:
        item = answer.item_of(self._call, self._head, part, self._index, status)
        return self._event(name, {"output_index": self._index, "item": item})

    def _event(self, name: str, fields: Mapping[str, object], part: Part | None = None) -> bytes:
        """Frame the next event; one that is about the content of `part` says where that is."""
        body: dict[str, object] = {"type": name, "sequence_number": self._n_events}
        self._n_events += 1
        if part is not None:
            body["item_id"] = answer.item_id(self._head, part, self._index)
            body["output_index"] = self._index
            if part.kind != "call":
                body["content_index"] = 0
        return named_event(name, encode_json({**body, **fields}))
