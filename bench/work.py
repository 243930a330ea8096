"""The words of a measurement: a figure, a work, and the bed that works are done on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from load import Seen
from models import text

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
Body = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A figure of a work. `goal`: the ratio shimmy / llama-server to reach, from below or above by `higher`; with `apart`
    the difference shimmy - llama-server."""

    name: str
    unit: str
    of: Callable[[Seen], float]
    higher: bool = False
    goal: float | None = None
    apart: bool = False

    def reached(self, llama: float, shimmy: float) -> bool | None:
        """Whether the goal is reached; None without a goal."""
        if self.goal is None:
            return None
        reach = shimmy - llama if self.apart else shimmy / llama
        return reach >= self.goal if self.higher else reach <= self.goal

    def limit(self) -> str:
        """Return the goal in words; nothing without one."""
        if self.goal is None:
            return ""
        sign = "≥" if self.higher else "≤"
        return (
            f"{sign} {self.goal:+,.0f} {self.unit}" if self.apart else f"{sign} {self.goal:.2f} ×"
        )


def tools(n: int) -> list[Body]:
    """Return tools like those that agents offer."""
    words = {"city": "The city's name.", "unit": "celsius or fahrenheit.", "days": "How many days."}
    properties = {name: {"type": "string", "description": text} for name, text in words.items()}
    schema = {"type": "object", "properties": properties, "required": ["city"]}
    return [
        {
            "type": "function",
            "function": {
                "name": f"get_weather_{i}",
                "description": "Get the weather of the next days in a city.",
                "parameters": schema,
            },
        }
        for i in range(n)
    ]


def _after_first(seen: Seen) -> float:
    """Return the rate of single streams between their first and last tokens."""
    seconds = 1e-3 * seen["ok"] * (seen["whole"]["mean"] - seen["ttft"]["mean"])
    return float((seen["tokens"] - seen["ok"]) / seconds)


DECODING = Metric(name="rate after the first token", unit="tok/s", of=_after_first, higher=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Requests of one kind: `n` of them, `c` at a time. The first metric is the one that the work is about.

    `ceiling` is the number of sequences for llama-batched-bench, and `ceiling_goal` the share of its rate to reach; one
    sequence is held against llama-bench too, with `single_goal`. Their rates have no prompt in them, so the share of a
    single stream is that of its rate after the first token.
    `shared` and `long` are sizes in tokens: of a system prompt that all requests share, of one prompt beside the others.
    `tools` is how many the requests offer.
    """

    name: str
    title: str
    path: str = COMPLETIONS
    n: int
    c: int
    max_tokens: int = 128
    sampling: Body = field(default_factory=lambda: {"temperature": 0})
    metrics: tuple[Metric, ...]
    ceiling: int | None = None
    ceiling_goal: float | None = None
    single_goal: float | None = None
    shared: int = 0
    long: int = 0
    tools: int = 0

    def body(self, tag: int, density: float = 1.0) -> Body:
        """Return the body of the requests, of a text with `density` tokens per word.

        `tag` makes a round's prompts its own, so that nothing is cached from before.
        """
        question = f"Request %d: {text(12, seed=tag)}"
        return self._common(self.max_tokens) | self._prompt(
            int(self.shared / density), question, tag
        )

    def long_body(self, tag: int, density: float = 1.0) -> Body | None:
        """Return the body of the one long request."""
        if not self.long:
            return None
        words = text(int(self.long / density), seed=tag)
        return self._common(16) | self._prompt(0, f"{tag} {words}", tag)

    @property
    def decoding(self) -> Metric:
        """The metric to hold against the ceilings."""
        return DECODING if DECODING in self.metrics else self.metrics[0]

    def _common(self, max_tokens: int) -> Body:
        limits = {"max_tokens": max_tokens, "ignore_eos": True}
        stream = {"stream": True, "stream_options": {"include_usage": True}}
        return {"model": "m", **limits, **stream, **self.sampling}

    def _prompt(self, n_shared: int, question: str, tag: int) -> Body:
        if self.path == COMPLETIONS:
            return {"prompt": question}
        messages = [{"role": "user", "content": question}]
        if n_shared:
            system = f"{tag} {text(n_shared, seed=tag)}"
            messages.insert(0, {"role": "system", "content": system})
        return {"messages": messages} | ({"tools": tools(self.tools)} if self.tools else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Bed:
    """A model, how many slots and how much context both servers get, and the works; no model is the built-in one, and
    then the start of the processes is what is measured. `template` is a chat template in the place of the model's."""

    name: str
    model: str | None
    n_parallel: int
    n_ctx: int
    works: tuple[Work, ...]
    template: Path | None = None
