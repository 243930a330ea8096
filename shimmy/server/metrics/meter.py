"""What is counted of one model's requests."""

from __future__ import annotations

from collections import Counter

from shimmy.engine.types.event import Finished
from shimmy.server.metrics.histogram import Histogram

# seconds
_WAITS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_TOKENS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class Meter:
    """One model's counts since the server began, over all of its loads. Thread: the loop's."""

    def __init__(self) -> None:
        """Nothing so far."""
        self.outcomes: Counter[str] = Counter()
        """Requests by how they ended: a finish reason, `cancelled`, or an error's code."""
        self.prompt_tokens = 0
        """Those of prompts that were computed."""
        self.cached_tokens = 0
        """Those of prompts that were in the cells already."""
        self.completion_tokens = 0
        self.embedded_tokens = 0
        """Tokens of embeddings and reranking."""
        self.prompt_seconds = 0.0
        self.predicted_seconds = 0.0
        self.first_token = Histogram(_WAITS)
        self.between_tokens = Histogram(_TOKENS)
        self.queue = Histogram(_WAITS)
        self.duration = Histogram(_WAITS)

    def finish(self, event: Finished, *, with_prompt: bool) -> None:
        """Count what a choice's end tells; `with_prompt` for one choice of each prompt."""
        usage, timings = event.usage, event.timings
        self.predicted_seconds += timings.predicted_ms / 1e3
        if with_prompt:
            self.prompt_tokens += usage.prompt_tokens - usage.cached_tokens
            self.cached_tokens += usage.cached_tokens
            self.prompt_seconds += timings.prompt_ms / 1e3
            self.queue.observe(timings.queue_ms / 1e3)
