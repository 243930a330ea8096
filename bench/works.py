"""What is measured: the beds (a model and how the servers are started) and the works done on each, with the figures wanted of them."""

from __future__ import annotations

from reference import ROOT
from work import CHAT, COMPLETIONS, DECODING, Bed, Body, Metric, Work


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
# what surrounds the prompt's computing: reading, rendering, tokenising, the way back
_LEAD = Metric(
    name="first token less the prompt's own time, median",
    unit="ms",
    of=lambda s: s["lead"]["p50"],
    goal=0.5,
)
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


def _asked(name: str, title: str, *, n_tools: int) -> Work:
    return Work(
        name=name,
        title=title,
        path=CHAT,
        n=40,
        c=1,
        max_tokens=8,
        tools=n_tools,
        metrics=(_LEAD, _first(), _FIRST_95),
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
        name="tiny-v152k, Qwen3's template",
        model="tiny-v152k-Q8_0",
        n_parallel=4,
        n_ctx=8192,
        template=ROOT / "tests/support/templates/qwen3.jinja",
        works=(
            _asked("first-plain", "1 stream, chat", n_tools=0),
            _asked("first-tool", "1 stream, chat with a tool", n_tools=1),
            _asked("first-tools", "1 stream, chat with 4 tools", n_tools=4),
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
                single_goal=0.98,
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
