"""GET /metrics: the figures of real requests, and what a scrape costs and survives."""

from __future__ import annotations

import asyncio
import json
import math
import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from shimmy.engine.machine import Card, Machine
from shimmy.engine.types.event import Delta
from shimmy.engine.types.info import DevicePlacement
from shimmy.engine.types.stats import DeviceMemory
from shimmy.errors import OverloadedError
from shimmy.models.registry import Registry
from shimmy.server.metrics import snapshot
from shimmy.server.metrics.counts import Counts
from shimmy.server.metrics.histogram import Histogram
from shimmy.server.metrics.stopwatch import Stopwatch
from tests.models.fake_engine import Garage
from tests.models.pools import entry_of, make_pool
from tests.server.fakes import FakePool, finished
from tests.support.served import Served, serve

MODEL = "shimmy-demo"
GPU_PART = DevicePlacement(
    device="MTL0", layers=[0], experts=[], output=True, weights=3, expert_weights=0, kv=2, compute=1
)


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[Served]:
    with serve(tmp_path_factory.mktemp("home"), "-t", "1") as server:
        yield server


def fetch(url: str, **headers: str) -> tuple[str, str]:
    """Return content type and body."""
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
        return answer.headers["Content-Type"], answer.read().decode()


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Return the value of each sample, by its name and its labels' values."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape(served: Served) -> dict[tuple[str, ...], float]:
    return samples(fetch(served.url + "/metrics")[1])


def chat(served: Served, question: str = "What is shimmy?", **fields) -> dict:
    messages = [{"role": "user", "content": question}]
    status, answer = served.post("/v1/chat/completions", {"messages": messages, **fields})
    assert status == 200, answer
    return answer


def test_the_counts_are_those_of_the_requests(served: Served) -> None:
    before = scrape(served)
    usages = [
        chat(served, temperature=0, max_tokens=8)["usage"],
        chat(served, "Hello there", temperature=0, max_tokens=5, n=2)["usage"],
    ]
    after = scrape(served)

    def more(*key: str) -> float:
        return after[key] - before.get(key, 0.0)

    n_tokens = sum(usage["completion_tokens"] for usage in usages)
    n_prompt = sum(usage["prompt_tokens"] for usage in usages)
    assert more("shimmy_completion_tokens_total", MODEL) == n_tokens
    computed = more("shimmy_prompt_tokens_total", MODEL)
    assert computed + more("shimmy_cached_tokens_total", MODEL) == n_prompt
    assert more("shimmy_requests_total", MODEL, "length") == 2
    assert more("shimmy_time_to_first_token_seconds_count", MODEL) == 2
    assert more("shimmy_time_to_first_token_seconds_sum", MODEL) > 0
    # a choice's first token has none before it
    assert more("shimmy_inter_token_seconds_count", MODEL) == n_tokens - 3
    assert more("shimmy_request_seconds_count", MODEL) == 2
    assert more("shimmy_http_requests_total", "POST", "/v1/chat/completions", "200") == 2
    assert more("shimmy_step_tokens_total", MODEL) >= n_tokens - 3 + computed
    # llama-server's names, over all models
    assert more("llamacpp:tokens_predicted_total") == n_tokens
    assert more("llamacpp:prompt_tokens_total") == computed
    assert more("llamacpp:n_decode_total") == more("shimmy_steps_total", MODEL) > 0


def test_what_there_is_now(served: Served) -> None:
    chat(served, max_tokens=4)
    now = scrape(served)
    assert now["shimmy_model_state", MODEL, "loaded"] == 1
    assert now["shimmy_slots", MODEL] == 8
    assert now["shimmy_slots_busy", MODEL] == now["shimmy_requests_running", MODEL] == 0
    assert now["shimmy_cells", MODEL] == 8192
    assert 0 < now["shimmy_cells_used", MODEL] == now["shimmy_cells_idle", MODEL]
    assert now["shimmy_model_memory_bytes", "CPU", MODEL, "weights"] > 1e6
    assert now["shimmy_worker_restarts_total", MODEL] == 0
    assert abs(now["process_start_time_seconds",] - time.time()) < 3600


def test_a_stream_counts_while_it_runs(served: Served) -> None:
    """Tokens count as they come; a client that leaves is no answer of a model's."""
    before = scrape(served)
    fields = {"prompt": "Once", "stream": True, "max_tokens": 2000, "ignore_eos": True}
    data = json.dumps({"model": MODEL, **fields}).encode()
    request = urllib.request.Request(served.url + "/v1/completions", data)
    with urllib.request.urlopen(request) as answer:
        for _ in range(20):
            answer.readline()
        during = scrape(served)
        assert during["shimmy_slots_busy", MODEL] == 1
        assert during["shimmy_requests_running", MODEL] == 1
        key = ("shimmy_completion_tokens_total", MODEL)
        assert during[key] > before.get(key, 0)
    served.wait_idle()
    after = scrape(served)
    gone = ("shimmy_requests_total", MODEL, "cancelled")
    assert after[gone] == before.get(gone, 0) + 1
    status = ("shimmy_http_requests_total", "POST", "/v1/completions", "499")
    assert after[status] == before.get(status, 0) + 1


def test_what_clients_make_up_is_no_label(served: Served) -> None:
    served.get("/made/up")
    served.post("/v1/chat/completions", {"model": "made-up", "messages": []})
    served.post(
        "/v1/chat/completions",
        {"model": "made-up", "messages": [{"role": "user", "content": "Hi"}]},
    )
    text = fetch(served.url + "/metrics")[1]
    assert "made" not in text
    assert samples(text)["shimmy_requests_total", "none", "model_not_found"] == 1
    assert samples(text)["shimmy_http_requests_total", "other", "other", "404"] == 1


def test_the_document_names_every_figure(served: Served) -> None:
    document = (Path(__file__).parents[2] / "docs/metrics.md").read_text(encoding="utf-8")
    text = fetch(served.url + "/metrics")[1]
    told = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    named = set(re.findall(r"`((?:shimmy|llamacpp|process)[:_]\w+)`", document))
    # where there is no GPU, it is nobody's
    assert told | {"shimmy_gpu_info"} == named


def test_embeddings_count_their_tokens(served: Served) -> None:
    _, answer = served.post("/v1/embeddings", {"input": ["a cat", "a dog"]})
    counted = scrape(served)["shimmy_embedded_tokens_total", MODEL]
    assert counted == answer["usage"]["total_tokens"]


def test_prometheus_and_people_get_text_and_json_is_for_the_asking(served: Served) -> None:
    prometheus = (
        "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
    )
    for accept in ("*/*", "text/plain", prometheus):
        assert fetch(served.url + "/metrics", Accept=accept)[0].startswith("text/plain; version=")
    for path, accept in (("?format=json", "*/*"), ("", "application/json")):
        kind, text = fetch(served.url + "/metrics" + path, Accept=accept)
        assert kind.startswith("application/json")
        assert json.loads(text)["service"] == "shimmy"
    status, answer = served.get("/metrics?format=xml")
    assert status == 400
    assert answer["error"]["param"] == "format"


def test_issue_111_the_json_keeps_its_keys(served: Served) -> None:
    _, body = served.get("/metrics?format=json")
    rust = {"service", "version", "gpu_detected", "gpu_vendor", "models", "system", "features"}
    assert rust | {"endpoints", "timestamp"} <= body.keys()
    assert isinstance(body["gpu_detected"], bool)
    assert body["models"].keys() >= {"total_count", "total_size_mb", "by_type"}
    assert body["system"].keys() == {
        "memory_total_mb",
        "memory_free_mb",
        "memory_available_mb",
    }
    assert scrape(served)["shimmy_gpu_detected",] == body["gpu_detected"]


@pytest.fixture
def garage() -> Garage:
    return Garage()


@pytest.fixture
async def server(start, garage):
    registry = await asyncio.to_thread(lambda: Registry(registered=[entry_of("a"), entry_of("b")]))
    server = await start(pool=make_pool(registry, garage, max_models=2))
    async with asyncio.timeout(10):
        while (await server.get("/health")).status != 200:
            await asyncio.sleep(0.005)
    return server


async def text_of(server) -> dict[tuple[str, ...], float]:
    response = await server.get("/metrics")
    assert response.status == 200
    return samples(await response.text())


@pytest.mark.parametrize(
    ("vendors", "detected", "vendor"),
    [
        ([], False, None),
        (["NVIDIA"], True, "nvidia"),
        (["Intel", "AMD"], True, "amd"),
        (["Intel"], True, "intel"),
    ],
)
async def test_issue_111_the_gpu_is_what_the_bus_shows(
    server, monkeypatch, vendors, detected, vendor
):
    """The original ran nvidia-smi and rocm-smi for each scrape."""
    cards = [Card(address=str(i), vendor=name, device="0x1") for i, name in enumerate(vendors)]
    monkeypatch.setattr(snapshot, "look", lambda: Machine(cards=cards, nodes=[]))
    body = await (await server.get("/metrics?format=json")).json()
    assert (body["gpu_detected"], body["gpu_vendor"]) == (detected, vendor)
    text = await text_of(server)
    assert text["shimmy_gpu_detected",] == detected
    assert {key[1] for key in text if key[0] == "shimmy_gpu_info"} == ({vendor} - {None})


async def test_issue_111_a_gpu_without_a_bus_is_known_by_the_model_on_it(
    server, garage, monkeypatch
):
    monkeypatch.setattr(snapshot, "look", lambda: Machine(cards=[], nodes=[]))
    engine = garage.engines[0]
    engine.info = msgspec.structs.replace(
        engine.info, placement=[GPU_PART], gpu_backend="metal", devices=["MTL0"]
    )
    engine.figures = msgspec.structs.replace(
        engine.figures, devices=[DeviceMemory(device="MTL0", free=5 << 20, total=9 << 20)]
    )
    body = await (await server.get("/metrics?format=json")).json()
    assert (body["gpu_detected"], body["gpu_vendor"]) == (True, "apple")
    assert body["gpus"] == [{"device": "MTL0", "memory_free_mb": 5, "memory_total_mb": 9}]
    text = await text_of(server)
    assert text["shimmy_device_memory_free_bytes", "MTL0"] == 5 << 20
    assert text["shimmy_device_memory_bytes", "MTL0"] == 9 << 20
    assert text["shimmy_model_memory_bytes", "MTL0", "a", "kv"] == 2


async def test_a_worker_that_does_not_answer_holds_nothing_up(server, garage, monkeypatch):
    monkeypatch.setattr(snapshot, "_PATIENCE", 0.05)
    garage.engines[0].hangs = True
    text = await text_of(server)
    assert text["shimmy_model_state", "a", "loaded"] == 1
    assert ("shimmy_slots", "a") not in text
    garage.engines[0].hangs = False
    assert ("shimmy_slots", "a") in await text_of(server)


async def test_a_scrape_loads_no_model_and_needs_the_key(server, garage, start):
    await text_of(server)
    assert len(garage.engines) == 1
    closed = await start(pool=FakePool(), api_keys=("secret",))
    assert (await closed.get("/metrics")).status == 401


def test_a_histogram_counts_up_to_each_bound():
    histogram = Histogram((1, 2.5))
    for value, n in ((0.5, 1), (1, 2), (2, 1), (99, 3)):
        histogram.observe(value, n)
    assert list(histogram.cumulative()) == [(1, 3), (2.5, 4), (math.inf, 7)]
    assert histogram.total == 0.5 + 2 + 2 + 297


def test_every_end_of_a_request_counts():
    counts = Counts()
    with Stopwatch(counts) as watch:
        watch.on("a", 1)
        watch.delta(Delta(text="x", n_tokens=2))
        watch.finish(finished(completion=3))

    def fails(error: BaseException, *model: str) -> None:
        with Stopwatch(counts) as watch:
            for name in model:
                watch.on(name, 1)
            raise error

    for error, *model in (
        (OverloadedError("full"), "a"),
        (asyncio.CancelledError(),),
        (ZeroDivisionError(), "a"),
    ):
        with pytest.raises(type(error)):
            fails(error, *model)
    assert counts.meter("a").outcomes == {"stop": 1, "overloaded": 1, "internal_error": 1}
    assert counts.meter("none").outcomes == {"cancelled": 1}
    assert counts.meter("a").completion_tokens == 3


def test_a_token_costs_next_to_nothing():
    """Less than three microseconds; a step of the smallest model takes five hundred."""
    counts, n = Counts(), 20_000
    best = math.inf
    for _ in range(5):
        with Stopwatch(counts) as watch:
            watch.on("a", 1)
            event = Delta(text="x")
            began = time.process_time()
            for _ in range(n):
                watch.delta(event)
            best = min(best, (time.process_time() - began) / n)
            watch.finish(finished(completion=n))
    assert best < 3e-6
