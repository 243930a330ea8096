"""A streamed chat: chunks of one or several choices."""

from __future__ import annotations

from typing import Any

from shimmy.engine.types.event import Delta, Finished
from shimmy.server.dialects.chat_calls import (
    empty_content,
    function_call,
    reason_of,
    tool_call_piece,
)
from shimmy.server.dialects.logprobs import chat_logprobs
from shimmy.server.dialects.openai import encode_json, error_event, timings_body, usage_body
from shimmy.server.dialects.output import total
from shimmy.server.dialects.types import Call, Head
from shimmy.server.errors import Problem
from shimmy.server.sse import DONE


class ChatStream:
    """Chunks of one answer. What all of them share is encoded once, so a delta is three joins."""

    def __init__(self, call: Call, head: Head) -> None:
        """Encode what every chunk begins and ends with."""
        self._call = call
        self._head = head
        shared = encode_json(
            {
                "id": head.id,
                "object": "chat.completion.chunk",
                "created": head.created,
                "model": head.model,
            }
        )
        # OpenAI: once usage is asked for, every chunk but the last says it is null
        self._usage = b',"usage":null' if call.include_usage else b""
        self._begin = b"data: " + shared[:-1]
        self._end = b',"finish_reason":null}]' + self._usage + b"}\n\n"
        # by choice
        self._delta = [
            self._begin + b',"choices":[{"index":%d,"delta":' % i for i in range(call.n_choices)
        ]
        self._content = [begin + b'{"content":' for begin in self._delta]
        self._content_end = b"}" + self._end
        self._ends: list[Finished] = []

    def opening(self) -> bytes:
        """Return the chunks that carry the roles, in the order of the choices; SDKs want them first."""
        content = encode_json(empty_content(self._call))
        role = b'{"role":"assistant","content":' + content + b"}" + self._end
        return b"".join([begin + role for begin in self._delta])

    def delta(self, delta: Delta) -> bytes:
        """Return a chunk for each kind of output: reasoning, content, each piece of a call."""
        if not delta.logprobs:
            if delta.text and not delta.reasoning and not delta.tool_calls:
                begin = self._content[delta.choice]
                return begin + encode_json(delta.text) + self._content_end
            return b"".join([self._chunk(delta, part) for part in self._parts(delta)])
        # the log-probabilities go with the first of the chunks, which may have nothing else to say
        first, *rest = self._parts(delta) or [{}]
        logprobs = b',"logprobs":' + encode_json(chat_logprobs(delta.logprobs))
        return b"".join(
            [self._chunk(delta, first, logprobs), *(self._chunk(delta, part) for part in rest)]
        )

    def _parts(self, delta: Delta) -> list[dict[str, Any]]:
        parts: list[dict[str, Any]] = []
        if delta.reasoning:
            parts.append({"reasoning_content": delta.reasoning})
        if delta.text:
            parts.append({"content": delta.text})
        if self._call.extra == "functions":
            # there was only ever one call
            first = [piece.call for piece in delta.tool_calls if piece.index == 0]
            return parts + [{"function_call": function_call(call)} for call in first]
        return parts + [
            {"tool_calls": [tool_call_piece(self._head, delta.choice, piece)]}
            for piece in delta.tool_calls
        ]

    def finish(self, finished: Finished) -> bytes:
        """Return a choice's reason; after the last one the usage chunk, if asked for, and [DONE]."""
        self._ends.append(finished)
        last = b'%b{},"finish_reason":%b}],"timings":%b%b}\n\n' % (
            self._delta[finished.choice],
            encode_json(reason_of(self._call, finished.reason)),
            encode_json(timings_body(finished)),
            self._usage,
        )
        if not finished.last:
            return last
        if not self._call.include_usage:
            return last + DONE
        ends = sorted(self._ends, key=lambda end: end.choice)
        usage = encode_json(usage_body(total(ends).usage))
        return last + self._begin + b',"choices":[],"usage":' + usage + b"}\n\n" + DONE

    def error(self, problem: Problem) -> bytes:
        """Return the error event; no [DONE] follows it."""
        return error_event(problem)

    def _chunk(self, delta: Delta, part: dict[str, Any], logprobs: bytes = b"") -> bytes:
        return self._delta[delta.choice] + encode_json(part) + logprobs + self._end
