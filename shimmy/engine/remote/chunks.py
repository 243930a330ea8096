"""What an OpenAI-compatible server streams, as the engine's events."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from shimmy.engine.types.event import (
    Candidate,
    Delta,
    Finished,
    FinishReason,
    Timings,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from shimmy.engine.types.prompt import ToolCall

_REASONS: dict[str, FinishReason] = {
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
}
_UNKNOWN_TOKEN = -1


class Chunks:
    """One answer: `Delta`s as they come, a `Finished` for each choice when all is said.

    A server gives counts for the request, not for a choice: they are the first one's, and where it
    gives none each chunk counts for a token. Times are the server's own, or else as seen here.
    """

    def __init__(self, n_choices: int, now: Callable[[], float] = time.monotonic) -> None:
        """The request has just been sent."""
        self._now = now
        self._sent = now()
        self._first: float | None = None
        self._reasons: dict[int, FinishReason] = dict.fromkeys(range(n_choices), "stop")
        self._n_deltas = dict.fromkeys(range(n_choices), 0)
        self._usage: dict[str, Any] = {}
        self._timings: dict[str, Any] = {}

    def take(self, chunk: dict[str, Any]) -> list[Delta]:
        """Return what is new in a chunk, or in an answer that came whole."""
        self._usage = chunk.get("usage") or self._usage
        self._timings = chunk.get("timings") or self._timings
        deltas = []
        for choice in chunk.get("choices") or ():
            index = int(choice.get("index") or 0)
            if reason := choice.get("finish_reason"):
                self._reasons[index] = _REASONS.get(reason, "stop")
            if (delta := _delta(choice, index)) is not None:
                self._first = self._first or self._now()
                self._n_deltas[index] = self._n_deltas.get(index, 0) + 1
                deltas.append(delta)
        return deltas

    def end(self) -> list[Finished]:
        """Return how the choices ended."""
        timings = self._times()
        return [
            Finished(
                reason=self._reasons[index],
                usage=self._counts(index),
                timings=timings,
                choice=index,
                last=index == max(self._reasons),
            )
            for index in sorted(self._reasons)
        ]

    def _counts(self, index: int) -> Usage:
        usage = self._usage
        if index or not usage:
            return Usage(prompt_tokens=0, completion_tokens=self._n_deltas.get(index, 0))
        others = sum(n for choice, n in self._n_deltas.items() if choice)
        return Usage(
            prompt_tokens=int(usage.get("prompt_tokens") or 0),
            completion_tokens=max(0, int(usage.get("completion_tokens") or 0) - others),
            cached_tokens=_detail(usage, "prompt_tokens_details", "cached_tokens"),
            reasoning_tokens=_detail(usage, "completion_tokens_details", "reasoning_tokens"),
        )

    def _times(self) -> Timings:
        if self._timings:
            return Timings(
                queue_ms=float(self._timings.get("queue_ms") or 0.0),
                prompt_ms=float(self._timings.get("prompt_ms") or 0.0),
                predicted_ms=float(self._timings.get("predicted_ms") or 0.0),
            )
        end = self._now()
        first = self._first or end
        return Timings(
            queue_ms=0.0,
            prompt_ms=(first - self._sent) * 1000,
            predicted_ms=(end - first) * 1000,
        )


def _delta(choice: dict[str, Any], index: int) -> Delta | None:
    """Return what a choice says, None if nothing; a chunk has `delta`, a whole answer `message`."""
    said = choice.get("delta") or choice.get("message") or {}
    delta = Delta(
        text=said.get("content") or choice.get("text") or "",
        reasoning=said.get("reasoning_content") or said.get("reasoning") or "",
        tool_calls=[_call(piece, at) for at, piece in enumerate(said.get("tool_calls") or ())],
        choice=index,
        logprobs=_logprobs(choice.get("logprobs") or {}),
    )
    return delta if delta != Delta(choice=index) else None


def _call(piece: dict[str, Any], at: int) -> ToolCallDelta:
    function = piece.get("function") or {}
    call = ToolCall(
        id=piece.get("id") or "",
        name=function.get("name") or "",
        arguments=function.get("arguments") or "",
    )
    return ToolCallDelta(index=int(piece.get("index", at)), call=call)


def _logprobs(body: dict[str, Any]) -> list[TokenLogprob]:
    """Read the chat's form of log-probabilities, or that of text completions."""
    if body.get("content"):
        return [
            TokenLogprob(
                item.get("id", _UNKNOWN_TOKEN),
                _text(item),
                item.get("logprob"),
                [
                    Candidate(other.get("id", _UNKNOWN_TOKEN), _text(other), other["logprob"])
                    for other in item.get("top_logprobs") or ()
                ],
            )
            for item in body["content"]
        ]
    tops = body.get("top_logprobs") or []
    return [
        TokenLogprob(
            _UNKNOWN_TOKEN,
            token.encode(),
            logprob,
            [
                Candidate(_UNKNOWN_TOKEN, text.encode(), value)
                for text, value in ((tops[at] if at < len(tops) else None) or {}).items()
            ],
        )
        for at, (token, logprob) in enumerate(
            zip(body.get("tokens") or (), body.get("token_logprobs") or (), strict=False)
        )
    ]


def _text(item: dict[str, Any]) -> bytes:
    raw = item.get("bytes")
    return bytes(raw) if raw is not None else str(item.get("token", "")).encode()


def _detail(usage: dict[str, Any], group: str, name: str) -> int:
    return int((usage.get(group) or {}).get(name) or 0)
