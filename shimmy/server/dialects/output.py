"""Deltas put together, for answers in one piece."""

from __future__ import annotations

from collections.abc import Sequence

from shimmy.engine.types.event import Delta, Finished, TokenLogprob, Usage
from shimmy.engine.types.prompt import ToolCall
from shimmy.errors import ShimmyError
from shimmy.server.dialects.parts import Parts


class Echo(Delta, frozen=True, kw_only=True):
    """A prompt, where a choice is to begin with it; the log-probabilities are the prompt's."""


class Choice:
    """One choice. `echoed` is its prompt, where the answer is to begin with that."""

    def __init__(self) -> None:
        self.finished: Finished | None = None
        self.echoed: Echo | None = None
        self.logprobs: list[TokenLogprob] = []
        self.parts = Parts()

    def add(self, delta: Delta) -> None:
        """Append what `delta` brings."""
        if isinstance(delta, Echo):
            self.echoed = delta
            return
        self.logprobs += delta.logprobs
        for _ in self.parts.add(delta):
            pass

    @property
    def text(self) -> str:
        """All content, without an echoed prompt."""
        return self.parts.text_of("text")

    @property
    def reasoning(self) -> str:
        """All reasoning."""
        return self.parts.text_of("reasoning")

    @property
    def tool_calls(self) -> list[ToolCall]:
        """The calls, whole, by index."""
        return [
            ToolCall(id=part.id, name=part.name, arguments=part.text) for part in self.parts.calls
        ]

    @property
    def end(self) -> Finished:
        """How it ended; only after it has."""
        if self.finished is None:
            raise ShimmyError("the generation has not finished")
        return self.finished

    @property
    def mean_logprob(self) -> float:
        """How likely its tokens were, on average; of none, certain."""
        known = [entry.logprob for entry in self.logprobs if entry.logprob is not None]
        return sum(known) / len(known) if known else 0.0


class Output:
    """All choices of an answer; for APIs that know one only, the first one's parts."""

    def __init__(self, n_choices: int = 1, *, n_prompts: int = 1) -> None:
        """`n_choices` in all, the same number for each prompt."""
        self.choices = [Choice() for _ in range(n_choices)]
        self._n_prompts = n_prompts
        self._total: Finished | None = None

    def add(self, delta: Delta) -> None:
        """Append what `delta` brings to its choice."""
        self.choices[delta.choice].add(delta)

    def finish(self, finished: Finished) -> None:
        """Note the end of a choice."""
        self.choices[finished.choice].finished = finished

    def keep_best(self, n: int) -> None:
        """Keep the `n` likeliest choices of each prompt. What the others cost still counts."""
        self._total = self.total
        each = len(self.choices) // self._n_prompts
        groups = [self.choices[i : i + each] for i in range(0, len(self.choices), each)]
        self.choices = [
            choice
            for group in groups
            for choice in sorted(group, key=lambda choice: -choice.mean_logprob)[:n]
        ]

    @property
    def total(self) -> Finished:
        """The end of the whole answer: what all of it cost, and its longest time."""
        if self._total is not None:
            return self._total
        return total([choice.end for choice in self.choices], self._n_prompts)

    @property
    def parts(self) -> Parts:
        """The first choice's parts, in the order in which they came."""
        return self.choices[0].parts

    @property
    def text(self) -> str:
        """The first choice's content."""
        return self.choices[0].text

    @property
    def reasoning(self) -> str:
        """The first choice's reasoning."""
        return self.choices[0].reasoning

    @property
    def tool_calls(self) -> list[ToolCall]:
        """The first choice's calls."""
        return self.choices[0].tool_calls

    @property
    def end(self) -> Finished:
        """How the first choice ended."""
        return self.choices[0].end


def total(ends: Sequence[Finished], n_prompts: int = 1) -> Finished:
    """Return the sum of choices' ends: each prompt's tokens once, and what every choice added.

    `ends` are in the order of the choices, as many for each prompt.
    """
    if len(ends) == 1:
        return ends[0]
    firsts = ends[:: len(ends) // n_prompts]
    longest = max(ends, key=lambda end: end.timings.predicted_ms)
    return Finished(
        reason=ends[0].reason,
        usage=Usage(
            prompt_tokens=sum(end.usage.prompt_tokens for end in firsts),
            completion_tokens=sum(end.usage.completion_tokens for end in ends),
            cached_tokens=sum(end.usage.cached_tokens for end in firsts),
            reasoning_tokens=sum(end.usage.reasoning_tokens for end in ends),
        ),
        timings=longest.timings,
    )
