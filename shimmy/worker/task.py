"""One choice of a request inside the worker: how it is generated, what its reader was told."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shimmy.engine.types.event import (
    Delta,
    Finished,
    FinishReason,
    PromptScored,
    Timings,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from shimmy.engine.types.prompt import ToolCall
from shimmy.llama.stepper import Finish, RowEvent
from shimmy.worker.lora_set import NO_LORAS, LoraSet

if TYPE_CHECKING:
    from shimmy.llama.chat import OutputParser
    from shimmy.llama.row_sampler import RowSampler
    from shimmy.worker.job import Job
    from shimmy.worker.logprobs import TokenBytes

_REASONS: dict[Finish, FinishReason] = {
    Finish.EOG: "stop",
    Finish.STOP: "stop",
    Finish.LIMIT: "length",
    Finish.CONTEXT: "length",
    Finish.TOKEN: "stop",
}
_UNSEEN = (Finish.EOG, Finish.TOKEN)
"""Ends whose token has no text that a reader gets."""


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
class Choices:
    """What a request's choices share: adapters, how many have not ended. Thread: the engine's.

    While the prompt's log-probabilities are `scoring`, other choices than the first, which brings
    them, are `held` back. `first` is the first choice's job.
    """

    request_id: int
    n_open: int = 1
    loras: LoraSet = NO_LORAS
    scoring: bool = False
    held: list[Delta | Finished | PromptScored] = field(default_factory=list)
    first: Job | None = None

    def end(self) -> bool:
        """Note that one has ended; whether it was the last."""
        self.n_open -= 1
        return self.n_open == 0


@dataclass(slots=True)
class Task:
    """A choice from its preparation to its end. Thread: the preparing one, then the engine's.

    `deadline` is in seconds of the monotonic clock; `n_keep` first tokens survive a context shift.
    `logprobs` and `prompt_logprobs` are as in the request, for which `token_bytes` is needed. With
    `tells_end` a last token that no text shows has its log-probability too.
    """

    job: Job
    choices: Choices
    n_prompt: int
    sampler: RowSampler
    stops: list[str]
    max_tokens: int | None
    min_tokens: int = 0
    stop_tokens: list[int] = field(default_factory=list)
    choice: int = 0
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    token_bytes: TokenBytes | None = None
    tells_end: bool = False
    parser: OutputParser | None = None
    clock: Clock = field(default_factory=Clock)
    deadline: float | None = None
    n_keep: int = 0
    n_reasoning: int = 0
    called: bool = False
    grammar_field: str = "grammar"
    """The request's field that its grammar is from."""

    def __post_init__(self) -> None:
        """Make the first choice's share known to the others."""
        if self.choice == 0:
            self.choices.first = self.job
            self.choices.scoring = self.prompt_logprobs is not None

    @property
    def request_id(self) -> int:
        """The request that this is a choice of."""
        return self.choices.request_id

    @property
    def runs(self) -> bool:
        """Whether there is anything to compute: else only the prompt's length was asked for."""
        return self.max_tokens != 0 or self.prompt_logprobs is not None

    def events(self, event: RowEvent, now: float) -> list[Delta | Finished | PromptScored]:
        """Turn what the row said in a step into what its reader gets."""
        if not self.clock.first_token:
            self.clock.first_token = now
        done = event.finish is not Finish.NONE
        out: list[Delta | Finished | PromptScored] = []
        if self.choices.scoring and self.choice == 0:
            self._add_prompt(event, out)
        delta = self._delta(event, final=done)
        if delta is not None:
            out.append(delta)
        if done:
            out.append(self._finished(event, now))
        if self.choices.scoring:
            self.choices.held += out
            return []
        return out

    def nothing(self) -> Finished:
        """Return the end of a choice for which nothing is generated."""
        event = RowEvent(0, None, 0, Finish.LIMIT, None, "")
        return self._finished(event, self.clock.submitted)

    def _add_prompt(self, event: RowEvent, out: list[Delta | Finished | PromptScored]) -> None:
        if self.token_bytes is not None:
            scores = event.scores.prompt if event.scores is not None else []
            out.append(self.token_bytes.prompt(self.job.tokens, scores))
        out += self.choices.held
        self.choices.held = []
        self.choices.scoring = False

    def _delta(self, event: RowEvent, *, final: bool) -> Delta | None:
        logprobs = self._logprobs(event) if self.logprobs is not None else []
        text = event.text
        if self.parser is None:
            if not text and not logprobs:
                return None
            return Delta(text=text, choice=self.choice, logprobs=logprobs)
        pieces = self.parser.feed(text, final=final)
        calls = [
            ToolCallDelta(
                index=piece.index,
                call=ToolCall(id=piece.id, name=piece.name, arguments=piece.arguments),
            )
            for piece in pieces.calls
        ]
        self.called = self.called or bool(calls)
        if pieces.reasoning:
            self.n_reasoning = event.n_generated
        if not (pieces.content or pieces.reasoning or calls or logprobs):
            return None
        return Delta(
            text=pieces.content,
            reasoning=pieces.reasoning,
            tool_calls=calls,
            choice=self.choice,
            logprobs=logprobs,
        )

    def _logprobs(self, event: RowEvent) -> list[TokenLogprob]:
        if self.token_bytes is None or event.scores is None or not event.scores.token:
            return []
        unseen = event.finish in _UNSEEN or (event.finish is Finish.STOP and not event.text)
        if unseen and not self.tells_end:
            return []
        return [self.token_bytes.logprob(event.scores.token)]

    def _finished(self, event: RowEvent, now: float) -> Finished:
        reason = _REASONS[event.finish]
        return Finished(
            reason="tool_calls" if self.called and reason == "stop" else reason,
            usage=Usage(
                prompt_tokens=self.n_prompt,
                completion_tokens=event.n_generated,
                # what the others share with the first was computed for this request
                cached_tokens=(self.choices.first or self.job).n_shared,
                reasoning_tokens=self.n_reasoning,
            ),
            timings=self.clock.timings(now),
            stop=self.stops[event.stop] if event.stop is not None else None,
            choice=self.choice,
            last=self.choices.end(),
            stop_token=event.token if event.finish is Finish.TOKEN else None,
        )

    def close(self) -> None:
        """Free what is native and still this task's; idempotent."""
        self.sampler.close()
        if self.parser is not None:
            self.parser.close()
