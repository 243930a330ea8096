"""POST /v1/completions: raw text or tokens in, its continuation out."""

from __future__ import annotations

from typing import Any

from shimmy.engine.types.event import Delta, Finished
from shimmy.server.dialects.completion_request import parse
from shimmy.server.dialects.logprobs import LegacyLogprobs
from shimmy.server.dialects.openai import (
    encode_json,
    error_body,
    error_event,
    random_id,
    timings_body,
    usage_body,
)
from shimmy.server.dialects.output import Choice, total
from shimmy.server.dialects.types import Call, Echo, Head, Output
from shimmy.server.errors import Problem
from shimmy.server.sse import DONE

__all__ = ["encode", "error_body", "new_id", "parse", "stream"]


def new_id() -> str:
    """Return an id for an answer."""
    return random_id("cmpl-")


def encode(call: Call, head: Head, output: Output) -> bytes:
    """Return a `text_completion` object."""
    total = output.total
    return encode_json(
        {
            "id": head.id,
            "object": "text_completion",
            "created": head.created,
            "model": head.model,
            "choices": [_choice(call, i, choice) for i, choice in enumerate(output.choices)],
            "usage": usage_body(total.usage),
            "timings": timings_body(total),
        }
    )


def _choice(call: Call, number: int, choice: Choice) -> dict[str, Any]:
    logprobs = None
    echo = choice.echoed
    if call.extra == "logprobs":
        shape = LegacyLogprobs()
        parts = [shape.of_prompt(echo.text, echo.logprobs)] if echo else []
        logprobs = _joined([*parts, shape.of(choice.logprobs)])
    return {
        "text": (echo.text if echo else "") + choice.text,
        "index": number,
        "logprobs": logprobs,
        "finish_reason": choice.end.reason,
    }


def _joined(parts: list[dict[str, list[Any]]]) -> dict[str, list[Any]]:
    return {name: [each for part in parts for each in part[name]] for name in parts[0]}


def stream(call: Call, head: Head) -> CompletionStream:
    """Return the encoder of a stream of `text_completion` objects."""
    return CompletionStream(call, head)


class CompletionStream:
    """Objects of one answer, which share their beginning and their end."""

    def __init__(self, call: Call, head: Head) -> None:
        """Encode what every object begins and ends with."""
        self._include_usage = call.include_usage
        self._n_prompts = 1 + len(call.more)
        shared = encode_json(
            {
                "id": head.id,
                "object": "text_completion",
                "created": head.created,
                "model": head.model,
            }
        )
        self._null_usage = b',"usage":null' if call.include_usage else b""
        self._begin = b"data: " + shared[:-1]
        self._text = self._begin + b',"choices":[{"text":'
        self._end = b',"finish_reason":null}]' + self._null_usage + b"}\n\n"
        # by choice
        n_choices = call.n_choices
        self._index = [b',"index":%d,"logprobs":' % i for i in range(n_choices)]
        self._text_end = [index + b"null" + self._end for index in self._index]
        self._shapes = [LegacyLogprobs() for _ in range(n_choices if call.extra else 0)]
        self._ends: list[Finished] = []

    def opening(self) -> bytes:
        """Return nothing: there is no role to announce."""
        return b""

    def delta(self, delta: Delta) -> bytes:
        """Return one object for new text, or for tokens that show none yet."""
        if not self._shapes:
            if not delta.text:
                return b""
            return self._text + encode_json(delta.text) + self._text_end[delta.choice]
        if not delta.text and not delta.logprobs:
            return b""
        shape = self._shapes[delta.choice]
        logprobs = (
            shape.of_prompt(delta.text, delta.logprobs)
            if isinstance(delta, Echo)
            else shape.of(delta.logprobs)
        )
        return b"".join(
            [
                self._text,
                encode_json(delta.text),
                self._index[delta.choice],
                encode_json(logprobs),
                self._end,
            ]
        )

    def finish(self, finished: Finished) -> bytes:
        """Return a choice's reason; after the last one the usage, if asked for, and [DONE]."""
        self._ends.append(finished)
        last = b'%b""%bnull,"finish_reason":%b}],"timings":%b%b}\n\n' % (
            self._text,
            self._index[finished.choice],
            encode_json(finished.reason),
            encode_json(timings_body(finished)),
            self._null_usage,
        )
        if not finished.last:
            return last
        if not self._include_usage:
            return last + DONE
        ends = sorted(self._ends, key=lambda end: end.choice)
        usage = encode_json(usage_body(total(ends, self._n_prompts).usage))
        return last + self._begin + b',"choices":[],"usage":' + usage + b"}\n\n" + DONE

    def error(self, problem: Problem) -> bytes:
        """Return the error event; no [DONE] follows it."""
        return error_event(problem)
