"""How the figures are shown: a table for people, JSON with each round and request for machines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from shimmy.cli.bench.figures import Level, Percentiles, Round, Sample, Spread
from shimmy.cli.bench.load import Plan, Subject

# as wide as a terminal of 80 columns
COLUMNS = (
    ">CONC",
    ">PROMPT/S",
    ">MIN-MAX",
    ">GEN/S",
    ">MIN-MAX",
    ">TTFT P50/P95",
    ">ITL P50/P95",
    ">FAIL",
)


def rows(levels: Sequence[Level]) -> list[tuple[str, ...]]:
    """Return the table's rows: the median of the rounds and their range; latencies in ms.

    Concurrency, prompt and generated tokens per second, TTFT, ITL, requests that failed.
    """
    return [
        (
            str(level.concurrency),
            *_rates(level.prompt_rate),
            *_rates(level.generation_rate),
            _latencies(level.ttft),
            _latencies(level.itl),
            str(level.n_failed),
        )
        for level in levels
    ]


def sizes(plan: Plan) -> str:
    """Return what each request was, in a few words."""
    shared = f"{plan.shared_prefix} shared and " if plan.shared_prefix else ""
    return (
        f"{shared}{plan.prompt_tokens} prompt tokens, {plan.max_tokens} to generate, "
        f"temperature {plan.temperature:g}; median of {plan.repeats}"
    )


def errors(levels: Sequence[Level]) -> list[str]:
    """Return the different errors of requests, each with how often it came."""
    found = Counter(error for level in levels for r in level.rounds for error in r.errors)
    return [f"{n} failed: {message}" for message, n in found.items()]


def document(subject: Subject, plan: Plan, levels: Sequence[Level]) -> dict[str, object]:
    """Return all figures for JSON: rates in tokens per second, times in milliseconds."""
    return {
        "target": subject.facts,
        "settings": asdict(plan),
        "levels": [
            {
                "concurrency": level.concurrency,
                "prompt_per_second": level.prompt_rate,
                "predicted_per_second": level.generation_rate,
                "ttft_ms": _ms(level.ttft),
                "itl_ms": _ms(level.itl),
                "failed": level.n_failed,
                "repeats": [_round(r) for r in level.rounds],
            }
            for level in levels
        ],
    }


def _round(r: Round) -> dict[str, object]:
    return {
        "prompt_per_second": r.prompt_rate,
        "predicted_per_second": r.generation_rate,
        "total_ms": _thousand(r.seconds),
        "requests": [_request(sample) for sample in r.samples],
        "errors": r.errors,
    }


def _request(sample: Sample) -> dict[str, object]:
    return {
        "prompt_tokens": sample.prompt_tokens,
        "cached_tokens": sample.cached_tokens,
        "completion_tokens": sample.completion_tokens,
        "ttft_ms": _thousand(sample.ttft),
        "itl_ms": _ms(Percentiles.of(sample.token_gaps)),
        "total_ms": _thousand(sample.ended - sample.sent),
    }


def _rates(spread: Spread | None) -> tuple[str, str]:
    if spread is None:
        return "-", "-"
    return _number(spread.median), f"{_number(spread.min)}-{_number(spread.max)}"


def _latencies(percentiles: Percentiles | None) -> str:
    if percentiles is None:
        return "-"
    return f"{_number(percentiles.p50 * 1e3)}/{_number(percentiles.p95 * 1e3)}"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:.1f}"


def _ms(percentiles: Percentiles | None) -> dict[str, float] | None:
    if percentiles is None:
        return None
    return {"p50": percentiles.p50 * 1e3, "p95": percentiles.p95 * 1e3}


def _thousand(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1e3
