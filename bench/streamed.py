"""One request, timed at the client as its events come: the first token is measured, not derived."""

from __future__ import annotations

import http.client
import json
import time
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """Milliseconds from sending to the first token; tokens per second of the prompt (as the server times it: it
    knows when the prompt was through) and of generation (from the first token to the last, at the client)."""

    first_ms: float
    prompt_rate: float
    rate: float
    n_tokens: int


def ask(port: int, body: dict[str, Any]) -> Timed:
    """Stream a completion and time it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    data = json.dumps({**body, "stream": True, "stream_options": {"include_usage": True}})
    began = time.perf_counter()
    connection.request("POST", "/v1/completions", data, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    if answer.status != 200:
        raise RuntimeError(f"status {answer.status}: {answer.read(500).decode()}")
    first = last = 0.0
    timings: dict[str, float] = {}
    n_tokens = 0
    for line in answer:
        now = time.perf_counter()
        if not line.startswith(b"data: {"):
            continue
        event = json.loads(line[6:])
        if event.get("error"):
            raise RuntimeError(event["error"]["message"])
        if any(choice["text"] for choice in event["choices"]):
            first, last = first or now, now
        timings = event.get("timings") or timings
        n_tokens = (event.get("usage") or {}).get("completion_tokens", n_tokens)
    connection.close()
    return Timed(
        first_ms=1e3 * (first - began),
        prompt_rate=timings["prompt_n"] / timings["prompt_ms"] * 1e3,
        rate=(n_tokens - 1) / (last - first),
        n_tokens=n_tokens,
    )
