"""What is measured: the beds (a model and how the servers are started) and the works done on each, with the figures wanted of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
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


def _after_first(seen: Seen) -> float:
    """Return the rate of single streams between their first and last tokens."""
    seconds = 1e-3 * seen["ok"] * (seen["whole"]["mean"] - seen["ttft"]["mean"])
    return float((seen["tokens"] - seen["ok"]) / seconds)


DECODING = Metric(name="rate after the first token", unit="tok/s", of=_after_first, higher=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Requests of one kind: `n` of them, `c` at a time. The first metric is the one that the work is about.

    `ceiling` is the number of sequences for llama-batched-bench, and `ceiling_goal` the share of its rate to reach.
    Its rate has no prompt in it, so the share of a single stream is that of its rate after the first token.
    `shared` and `long` are sizes in tokens: of a system prompt that all requests share, of one prompt beside the others.
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
    shared: int = 0
    long: int = 0

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
        """The metric to hold against the ceiling."""
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
        return {"messages": messages}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bed:
    """A model, how many slots and how much context both servers get, and the works; no model is the built-in one, and
    then the start of the processes is what is measured."""

    name: str
    model: str | None
    n_parallel: int
    n_ctx: int
    works: tuple[Work, ...]


def _rate(goal: float | None) -> Metric:
    return Metric(
        name="rate", unit="tok/s", of=lambda s: s["tokens"] / s["seconds"], higher=True, goal=goal
    )


def _first(goal: float | None = None) -> Metric:
    return Metric(name="first token, median", unit="ms", of=lambda s: s["ttft"]["p50"], goal=goal)


def _beside(*, pause: float | None, own: float | None) -> tuple[Metric, ...]:
    longest, itself = "longest pause of the others", "its own first token"
    return (
        Metric(name=longest, unit="ms", of=lambda s: s["pause"]["max"], goal=pause),
        Metric(name="pauses of the others, p95", unit="ms", of=lambda s: s["pause"]["p95"]),
        Metric(name=itself, unit="ms", of=lambda s: s["long_ttft_ms"], goal=own),
    )


_GAP = Metric(name="between events, p95", unit="ms", of=lambda s: s["gap"]["p95"])
_SECONDS = Metric(name="total time", unit="s", of=lambda s: s["seconds"], goal=0.20)
_FIRST_95 = Metric(name="first token, p95", unit="ms", of=lambda s: s["ttft"]["p95"])
_START = (
    Metric(
        name="process start to first token",
        unit="ms",
        of=lambda s: s["start_ms"],
        goal=500,
        apart=True,
    ),
    Metric(name="memory after it", unit="MB", of=lambda s: s["memory_mb"]),
)
SAMPLED: Body = {"temperature": 0.7, "top_p": 0.9}


def _streams(
    name: str,
    title: str,
    *,
    goal: float | None,
    n: int = 96,
    path: str = COMPLETIONS,
    sampling: Body | None = None,
    ceiling_goal: float | None = None,
) -> Work:
    return Work(
        name=name,
        title=title,
        path=path,
        n=n,
        c=32,
        sampling=sampling or {"temperature": 0},
        metrics=(_rate(goal), _first(), _GAP),
        ceiling=32,
        ceiling_goal=ceiling_goal,
    )


FULL = (
    Bed(
        name="tiny-v152k",
        model="tiny-v152k-Q8_0",
        n_parallel=32,
        n_ctx=8192,
        works=(
            _streams(
                "v152k-greedy", "32 streams, completions, greedy", goal=3.5, ceiling_goal=0.75
            ),
            _streams(
                "v152k-sampled",
                "32 streams, completions, temperature 0.7, top_p 0.9",
                goal=3.5,
                sampling=SAMPLED,
                ceiling_goal=0.75,
            ),
            _streams("v152k-chat", "32 streams, chat, greedy", goal=3.5, path=CHAT),
            Work(
                name="v152k-one",
                title="1 stream, completions, greedy",
                n=8,
                c=1,
                metrics=(_rate(1.2), DECODING, _first(), _GAP),
                ceiling=1,
            ),
            Work(
                name="v152k-one-chat",
                title="1 stream, chat, 8 tokens: time to the first",
                path=CHAT,
                n=40,
                c=1,
                max_tokens=8,
                metrics=(_first(), _FIRST_95),
            ),
        ),
    ),
    Bed(
        name="tiny",
        model="tiny-Q8_0",
        n_parallel=32,
        n_ctx=8192,
        works=(
            _streams("tiny-chat", "32 streams, chat, greedy", goal=2.0, path=CHAT),
            _streams("tiny-completions", "32 streams, completions, greedy", goal=None),
        ),
    ),
    Bed(
        name="tiny-v152k, long context",
        model="tiny-v152k-Q8_0",
        n_parallel=4,
        n_ctx=16384,
        works=(
            Work(
                name="v152k-long",
                title="3 running streams, a prompt of 8k tokens comes in",
                n=3,
                c=3,
                max_tokens=512,
                long=8000,
                metrics=_beside(pause=None, own=None),
            ),
        ),
    ),
    Bed(
        name="qwen3-0.6b",
        model="qwen3-0.6b-Q4_K_M",
        n_parallel=8,
        n_ctx=20480,
        works=(
            Work(
                name="qwen-one",
                title="1 stream, completions, greedy",
                n=4,
                c=1,
                metrics=(_rate(None), DECODING, _first(), _GAP),
                ceiling=1,
                ceiling_goal=0.98,
            ),
            Work(
                name="qwen-8",
                title="8 streams, completions, greedy",
                n=8,
                c=8,
                metrics=(_rate(1.05), _first(), _GAP),
                ceiling=8,
            ),
            Work(
                name="qwen-shared",
                title="8 requests at once with one system prompt of 2k tokens, 32 tokens each",
                path=CHAT,
                n=8,
                c=8,
                max_tokens=32,
                shared=2000,
                metrics=(_SECONDS, _FIRST_95),
            ),
            Work(
                name="qwen-long",
                title="3 running streams, a prompt of 4k tokens comes in",
                n=3,
                c=3,
                max_tokens=512,
                long=4000,
                metrics=_beside(pause=0.10, own=1.3),
            ),
        ),
    ),
    Bed(
        name="built-in model",
        model=None,
        n_parallel=8,
        n_ctx=8192,
        works=(
            Work(
                name="start",
                title="the process starts with the built-in model, 1 request, chat",
                path=CHAT,
                n=1,
                c=1,
                max_tokens=8,
                metrics=_START,
            ),
        ),
    ),
)

QUICK = (
    Bed(
        name="tiny-v152k",
        model="tiny-v152k-Q8_0",
        n_parallel=32,
        n_ctx=8192,
        works=(
            _streams(
                "v152k-greedy", "32 streams, completions, greedy", goal=3.5, n=32, ceiling_goal=0.75
            ),
            _streams("v152k-chat", "32 streams, chat, greedy", goal=3.5, n=32, path=CHAT),
        ),
    ),
)
