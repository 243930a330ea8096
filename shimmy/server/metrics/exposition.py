"""The figures in Prometheus's words: shimmy's own names by model, and llama-server's over all of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import generate_latest

from shimmy.engine.types.stats import WorkerStats
from shimmy.models.status import ModelStatus
from shimmy.server.health import VERSION
from shimmy.server.metrics.counts import Counts
from shimmy.server.metrics.histogram import Histogram
from shimmy.server.metrics.meter import Meter
from shimmy.server.metrics.snapshot import Loaded, Snapshot

CONTENT_TYPE = CONTENT_TYPE_LATEST
Row = tuple[Sequence[str], float]


def text(snapshot: Snapshot, counts: Counts, n_active: int) -> bytes:
    """Return everything; `n_active` HTTP requests are being answered, this one among them."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(snapshot, counts, n_active))
    return generate_latest(registry)


class _Families:
    """prometheus_client's way to figures that are kept elsewhere."""

    def __init__(self, snapshot: Snapshot, counts: Counts, n_active: int) -> None:
        self._snapshot = snapshot
        self._counts = counts
        self._n_active = n_active

    def describe(self) -> list[Metric]:
        """Name nothing: what there is differs from scrape to scrape."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield all families."""
        yield from _server(self._snapshot, self._counts, self._n_active)
        yield from _requests(self._counts)
        yield from _models(self._snapshot.statuses)
        yield from _workers(self._snapshot.loaded)
        yield from _devices(self._snapshot)
        yield from _llama_server(self._snapshot, self._counts)


def _server(snapshot: Snapshot, counts: Counts, n_active: int) -> Iterator[Metric]:
    gpu = snapshot.gpu
    yield _gauge("shimmy_build_info", "The version.", ["version"], [([VERSION], 1)])
    yield _gauge(
        "process_start_time_seconds",
        "When the server began, in Unix time.",
        [],
        [([], counts.began)],
    )
    yield _gauge(
        "shimmy_gpu_detected", "Whether the machine has a GPU.", [], [([], float(gpu.detected))]
    )
    if gpu.vendor is not None:
        yield _gauge("shimmy_gpu_info", "Whose GPU it is.", ["vendor"], [([gpu.vendor], 1)])
    yield _counter(
        "shimmy_http_requests",
        "HTTP answers; 499: the client went away.",
        ["method", "route", "status"],
        [
            ((method, route, str(status)), n)
            for (method, route, status), n in sorted(counts.answers.items())
        ],
    )
    yield _gauge(
        "shimmy_http_requests_active", "Being answered, this one too.", [], [([], n_active)]
    )


def _requests(counts: Counts) -> Iterator[Metric]:
    meters = sorted(counts.meters.items())

    def counter(name: str, about: str, rows: Iterable[Row]) -> Metric:
        return _counter(name, about, ["model"], rows)

    yield _counter(
        "shimmy_requests",
        "Requests for text by how they ended: a finish reason, cancelled, or an error's code.",
        ["model", "outcome"],
        [((name, why), n) for name, meter in meters for why, n in sorted(meter.outcomes.items())],
    )
    for name, about in _TOTALS.items():
        yield counter(f"shimmy_{name}", about, [([m], getattr(meter, name)) for m, meter in meters])
    for name, (attribute, about) in _HISTOGRAMS.items():
        family = HistogramMetricFamily(f"shimmy_{name}", about, labels=["model"])
        for model, meter in meters:
            histogram: Histogram = getattr(meter, attribute)
            buckets = [(_bound(bound), float(n)) for bound, n in histogram.cumulative()]
            family.add_metric([model], buckets, histogram.total)
        yield family


# by the names of `Meter`
_TOTALS = {
    "prompt_tokens": "Tokens of prompts that were computed.",
    "cached_tokens": "Tokens of prompts that were in the KV cells already.",
    "completion_tokens": "Tokens that were generated.",
    "embedded_tokens": "Tokens of embeddings and reranking.",
    "prompt_seconds": "Time in which prompts were computed, each request's by itself.",
    "predicted_seconds": "Time in which tokens were generated, each request's by itself.",
}
_HISTOGRAMS = {
    "time_to_first_token_seconds": ("first_token", "From a request to its first token."),
    "inter_token_seconds": ("between_tokens", "From a token to the next one of its choice."),
    "queue_seconds": ("queue", "From a request's tokens being ready to its slot."),
    "request_seconds": ("duration", "From a request to its end."),
}


def _models(statuses: list[ModelStatus]) -> Iterator[Metric]:
    there = [one for one in statuses if one.n_requests or one.state != "unloaded"]

    def gauge(name: str, about: str, rows: Iterable[Row]) -> Metric:
        return _gauge(name, about, ["model"], rows)

    yield _gauge(
        "shimmy_model_state",
        "What a model is doing.",
        ["model", "state"],
        [((one.entry.name, one.state), 1) for one in there],
    )
    yield gauge(
        "shimmy_requests_running",
        "Requests that have the model.",
        [([one.entry.name], one.in_flight) for one in there],
    )
    yield gauge(
        "shimmy_requests_waiting",
        "Requests that wait: for the load, for room, for a slot.",
        [([one.entry.name], one.queued) for one in there],
    )
    yield gauge(
        "shimmy_model_load_seconds",
        "What the last load took.",
        [([one.entry.name], one.load_ms / 1e3) for one in there if one.load_ms is not None],
    )
    yield _counter(
        "shimmy_worker_restarts",
        "Workers that died and were started again, since the model was loaded.",
        ["model"],
        [([one.entry.name], one.restarts) for one in there],
    )


def _workers(loaded: list[Loaded]) -> Iterator[Metric]:
    known = [(one.name, one.stats) for one in loaded if one.stats is not None]
    for name, (attribute, about) in _GAUGES.items():
        rows = [([model], getattr(stats, attribute)) for model, stats in known]
        yield _gauge(f"shimmy_{name}", about, ["model"], rows)
    for name, (attribute, about) in _COUNTERS.items():
        rows = [([model], getattr(stats, attribute)) for model, stats in known]
        yield _counter(f"shimmy_{name}", about, ["model"], rows)


# by the names of `WorkerStats`
_GAUGES = {
    "slots": ("n_slots", "Rows that can run at once."),
    "slots_busy": ("n_busy", "Rows that run."),
    "slots_waiting": ("n_waiting", "Choices that wait for a slot."),
    "cells": ("n_cells", "KV cells."),
    "cells_used": ("n_cells_used", "KV cells that hold tokens."),
    "cells_idle": ("n_cells_idle", "Those that only wait for prompts that begin alike."),
}
_COUNTERS = {
    "steps": ("n_steps", "Decodes."),
    "step_rows": ("n_step_rows", "Rows that took part in them."),
    "step_tokens": ("n_step_tokens", "Tokens that were fed in them."),
    "step_seconds": ("step_seconds", "Time that they took."),
    "preemptions": ("n_preempted", "Rows that had to pause because the cells ran out."),
}


def _devices(snapshot: Snapshot) -> Iterator[Metric]:
    devices = snapshot.devices().values()
    yield _gauge(
        "shimmy_device_memory_free_bytes",
        "Free on a GPU, by its driver.",
        ["device"],
        [([one.device], one.free) for one in devices],
    )
    yield _gauge(
        "shimmy_device_memory_bytes",
        "All of a GPU's memory.",
        ["device"],
        [([one.device], one.total) for one in devices],
    )
    yield _gauge(
        "shimmy_model_memory_bytes",
        "What a model takes on a device, by llama.cpp's books; CPU is host memory.",
        ["model", "device", "part"],
        [
            ((one.name, place.device, part), getattr(place, part))
            for one in snapshot.loaded
            for place in one.placement
            for part in ("weights", "kv", "compute")
        ],
    )
    yield _gauge("shimmy_host_memory_bytes", "Host memory.", [], [([], snapshot.memory_total)])
    yield _gauge(
        "shimmy_host_memory_available_bytes",
        "Host memory that programs can have.",
        [],
        [([], snapshot.memory_available)],
    )


def _llama_server(snapshot: Snapshot, counts: Counts) -> Iterator[Metric]:
    """llama-server's names, over all models."""
    meters: list[Meter] = list(counts.meters.values())
    stats: list[WorkerStats] = [one.stats for one in snapshot.loaded if one.stats is not None]
    prompts = sum(meter.prompt_tokens for meter in meters)
    prompt_seconds = sum(meter.prompt_seconds for meter in meters)
    tokens = sum(meter.completion_tokens for meter in meters)
    seconds = sum(meter.predicted_seconds for meter in meters)
    n_steps = sum(one.n_steps for one in stats)
    counters = {
        "prompt_tokens": prompts,
        "prompt_tokens_cached": sum(meter.cached_tokens for meter in meters),
        "prompt_seconds": prompt_seconds,
        "tokens_predicted": tokens,
        "tokens_predicted_seconds": seconds,
        "n_decode": n_steps,
    }
    gauges = {
        "prompt_tokens_seconds": prompts / prompt_seconds if prompt_seconds else 0,
        "predicted_tokens_seconds": tokens / seconds if seconds else 0,
        "requests_processing": sum(one.in_flight for one in snapshot.statuses),
        "requests_deferred": sum(one.queued for one in snapshot.statuses),
        "n_busy_slots_per_decode": sum(one.n_step_rows for one in stats) / max(n_steps, 1),
    }
    about = "As llama-server's."
    for name, value in counters.items():
        yield _counter(f"llamacpp:{name}", about, [], [([], value)])
    for name, value in gauges.items():
        yield _gauge(f"llamacpp:{name}", about, [], [([], value)])


def _bound(value: float) -> str:
    return "+Inf" if value == math.inf else str(float(value))


def _counter(name: str, about: str, labels: Sequence[str], rows: Iterable[Row]) -> Metric:
    family = CounterMetricFamily(name, about, labels=labels)
    for values, number in rows:
        family.add_metric(values, number)
    return family


def _gauge(name: str, about: str, labels: Sequence[str], rows: Iterable[Row]) -> Metric:
    family = GaugeMetricFamily(name, about, labels=labels)
    for values, number in rows:
        family.add_metric(values, number)
    return family
