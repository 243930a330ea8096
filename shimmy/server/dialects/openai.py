"""What OpenAI's endpoints have in common: ids, stops, usage, timings, errors."""

from __future__ import annotations

import secrets
from typing import Any

import msgspec

from shimmy.engine.types.event import Finished, Usage
from shimmy.server.dialects.fields import unsupported
from shimmy.server.errors import Problem
from shimmy.server.sse import event

encode_json = msgspec.json.Encoder().encode


class StreamOptions(msgspec.Struct, kw_only=True):
    """`stream_options` of a body."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


def wants_usage(options: StreamOptions | None) -> bool:
    """Tell whether the stream ends with a usage chunk.

    Raises:
        FieldError: obfuscation is asked for.
    """
    if options is None:
        return False
    if options.include_obfuscation:
        raise unsupported("stream_options.include_obfuscation")
    return bool(options.include_usage)


def random_id(prefix: str) -> str:
    """Return `prefix` and 24 random hexadecimal digits."""
    return prefix + secrets.token_hex(12)


def usage_body(usage: Usage) -> dict[str, Any]:
    """Return OpenAI's `usage`; all counts are exact."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def timings_body(finished: Finished) -> dict[str, Any]:
    """Return llama-server's `timings`, and the wait; milliseconds, and tokens per second."""
    usage, timings = finished.usage, finished.timings
    prompt_n = usage.prompt_tokens - usage.cached_tokens
    return {
        "cache_n": usage.cached_tokens,
        "queue_ms": round(timings.queue_ms, 3),
        "prompt_n": prompt_n,
        "prompt_ms": round(timings.prompt_ms, 3),
        "prompt_per_second": _rate(prompt_n, timings.prompt_ms),
        "predicted_n": usage.completion_tokens,
        "predicted_ms": round(timings.predicted_ms, 3),
        "predicted_per_second": _rate(usage.completion_tokens, timings.predicted_ms),
    }


def _rate(n: int, ms: float) -> float:
    return round(n / ms * 1e3, 3) if ms > 0 else 0.0


def error_body(problem: Problem) -> bytes:
    """Return OpenAI's error object as JSON."""
    return encode_json(
        {
            "error": {
                "message": problem.message,
                "type": problem.type,
                "param": problem.param,
                "code": problem.code,
                **problem.extra,
            }
        }
    )


def error_event(problem: Problem) -> bytes:
    """Return an error within a stream: SDKs raise it, and no [DONE] follows."""
    return event(error_body(problem))
