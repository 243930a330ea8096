"""Everything that is counted, by model and by route."""

from __future__ import annotations

import time
from collections import Counter

from aiohttp import web

from shimmy.server.metrics.meter import Meter

OTHER = "other"
"""Stands for routes and methods that are not ours: what clients make up is no label."""


class Counts:
    """The server's counters. Labels are names of models and routes there are. Thread: the loop's."""

    def __init__(self) -> None:
        """Nothing so far."""
        self.began = time.time()
        """Unix seconds."""
        self.meters: dict[str, Meter] = {}
        self.answers: Counter[tuple[str, str, int]] = Counter()
        """HTTP answers by method, route and status."""

    def meter(self, model: str) -> Meter:
        """Return the counts of a model."""
        found = self.meters.get(model)
        if found is None:
            found = self.meters[model] = Meter()
        return found

    def answered(self, request: web.Request, status: int) -> None:
        """Count an HTTP answer."""
        resource = request.match_info.route.resource
        if resource is None:
            self.answers[OTHER, OTHER, status] += 1
        else:
            self.answers[request.method, resource.canonical, status] += 1
