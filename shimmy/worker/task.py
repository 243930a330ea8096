"""One request inside the worker: what it generates from, and what it has told its reader."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shimmy.engine.types.event import Delta, Finished, FinishReason, Timings, ToolCallDelta, Usage
from shimmy.engine.types.prompt import ToolCall
from shimmy.llama.stepper import Finish, RowEvent

if TYPE_CHECKING:
    from shimmy.llama.chat import OutputParser
    from shimmy.llama.row_sampler import RowSampler
    from shimmy.worker.scheduler import Job

_REASONS: dict[Finish, FinishReason] = {
    Finish.EOG: "stop",
    Finish.STOP: "stop",
    Finish.LIMIT: "length",
    Finish.CONTEXT: "length",
}


@dataclass(slots=True)
class Clock:
    """When a request reached each stage, in seconds of the monotonic clock."""

    submitted: float = field(default_factory=time.monotonic)
    started: float = 0.0
    first_token: float = 0.0

    def timings(self, now: float) -> Timings:
        """Return the stages' lengths; a stage that was never reached counts as 0."""
        started = self.started or now
        first = self.first_token or now
        return Timings(
            queue_ms=1e3 * (started - self.submitted),
            prompt_ms=1e3 * (first - started),
            predicted_ms=1e3 * (now - first),
        )


@dataclass(slots=True)
class Task:
    """A request from its preparation to its end. Thread: the preparing one, then the engine's."""

    job: Job
    n_prompt: int
    sampler: RowSampler
    stops: list[str]
    max_tokens: int | None
    parser: OutputParser | None = None
    clock: Clock = field(default_factory=Clock)
    called: bool = False

    def events(self, event: RowEvent, now: float) -> list[Delta | Finished]:
        """Turn what the row said in a step into what its reader gets."""
        if not self.clock.first_token:
            self.clock.first_token = now
        done = event.finish is not Finish.NONE
        out: list[Delta | Finished] = []
        delta = self._delta(event.text, final=done)
        if delta is not None:
            out.append(delta)
        if done:
            out.append(self._finished(event, now))
        return out

    def _delta(self, text: str, *, final: bool) -> Delta | None:
        if self.parser is None:
            return Delta(text=text) if text else None
        pieces = self.parser.feed(text, final=final)
        calls = [
            ToolCallDelta(
                index=piece.index,
                call=ToolCall(id=piece.id, name=piece.name, arguments=piece.arguments),
            )
            for piece in pieces.calls
        ]
        self.called = self.called or bool(calls)
        if not (pieces.content or pieces.reasoning or calls):
            return None
        return Delta(text=pieces.content, reasoning=pieces.reasoning, tool_calls=calls)

    def _finished(self, event: RowEvent, now: float) -> Finished:
        reason = _REASONS[event.finish]
        return Finished(
            reason="tool_calls" if self.called and reason == "stop" else reason,
            usage=Usage(
                prompt_tokens=self.n_prompt,
                completion_tokens=event.n_generated,
                cached_tokens=self.job.n_shared,
            ),
            timings=self.clock.timings(now),
            stop=self.stops[event.stop] if event.stop is not None else None,
        )

    def close(self) -> None:
        """Free what is native and still this task's; idempotent."""
        self.sampler.close()
        if self.parser is not None:
            self.parser.close()
