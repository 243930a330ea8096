"""`shimmy serve --auto` against a hub on this machine: every model of the catalogue is a tiny one there."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from shimmy.models.catalogue import Machine, catalogue, recommend
from tests.models import gguf
from tests.models.hub import Hub, serving
from tests.support.served import Served, serve
from tests.support.tiny_gguf import write_model

# The limit makes the choice the same however much memory others leave free just then.
LIMIT = 6 << 30
FLAGS = (
    *("--auto", "-t", "1", "-np", "2", "-c", "2048", "--gpu-backend", "cpu"),
    *("--models-memory", str(LIMIT)),
)


def stock(hub: Hub, content: bytes) -> None:
    """Put `content` into every repository of the catalogue, as each of its files."""
    for model in catalogue().models:
        stem = model.repo.rpartition("/")[2].removesuffix("-GGUF")
        for quant in model.quants:
            hub.add(model.repo, **{f"{stem}-{quant}.gguf": content})


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_model(tmp_path_factory.mktemp("hub") / "m.gguf").read_bytes()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, content: bytes) -> Iterator[Hub]:
    with serving(Hub()) as hub:
        stock(hub, content)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        yield hub


def upgrade(served: Served) -> dict[str, Any]:
    status, body = served.get("/api/models")
    assert status == 200
    assert served.get("/api/status")[1]["upgrade"].keys() == body["upgrade"].keys()
    return dict(body["upgrade"])


def until(served: Served, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        now = upgrade(served)
        if is_so(now):
            return now
        assert now["status"] not in {"failed", "done", "kept"}, now
        time.sleep(0.05)
    raise AssertionError(upgrade(served))


def ended(served: Served) -> dict[str, Any]:
    return until(served, lambda now: now["status"] in {"failed", "done", "kept"})


def answer(served: Served, **fields: Any) -> str:
    status, body = served.post("/v1/completions", {"prompt": "Hi", "max_tokens": 2, **fields})
    assert status == 200, body
    return str(body["model"])


def logged(served: Served, words: str) -> bool:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if any(words in line for line in served.log):
            return True
        time.sleep(0.02)
    raise AssertionError("".join(served.log))


async def test_the_demo_answers_until_the_better_model_does_and_no_request_fails(
    hub: Hub, tmp_path: Path, content: bytes
) -> None:
    hub.break_after, hub.breaks, hub.hold = 60_000, 1, threading.Event()
    began = time.monotonic()
    with serve(tmp_path, *FLAGS) as served:
        assert answer(served) == answer(served, model="auto") == "shimmy-demo"
        assert time.monotonic() - began < 20
        now = until(served, lambda now: now["bytes"] >= 60_000)
        assert (now["status"], now["alias"], now["starter"]) == ("fetching", "auto", "shimmy-demo")
        assert now["size_bytes"] == len(content)
        assert now["progress"] == round(60_000 / len(content), 3)
        assert logged(served, f"auto: shimmy-demo answers while {now['model']} is fetched")
        models = await asked_during(served, hub.hold.set)
        assert models[0] == "shimmy-demo"
        assert len(set(models)) == 2
        assert models == sorted(models, key=models.index), "switched once, for good"
        now = ended(served)
        assert (now["status"], now["model"], now["error"]) == ("done", models[-1], None)
        assert answer(served) == answer(served, model="auto") == models[-1]
        assert answer(served, model="shimmy-demo") == "shimmy-demo"
        assert logged(served, f"auto: {models[-1]} answers now in place of shimmy-demo")


async def asked_during(served: Served, begin: Callable[[], None]) -> list[str]:
    """Ask `auto` again and again until another model has answered 20 times; return who answered."""
    models: list[str] = []
    async with aiohttp.ClientSession(served.url) as http:

        async def ask() -> None:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and models.count(models[-1] if models else "") < 20:
                body = {"model": "auto", "prompt": "Hi", "max_tokens": 1}
                async with http.post("/v1/completions", json=body) as response:
                    said = await response.json()
                    assert response.status == 200, said
                    models.append(said["model"])
                if models[-1] == models[0]:
                    del models[1:]

        models.append(answer(served))
        begin()
        await asyncio.gather(ask(), ask())
    return models


def test_what_is_interrupted_goes_on_at_the_next_start(hub: Hub, tmp_path: Path) -> None:
    hub.break_after, hub.breaks, hub.hold = 60_000, 1, threading.Event()
    with serve(tmp_path, *FLAGS) as served:
        until(served, lambda now: now["bytes"] >= 60_000)
    hub.hold.set()
    hub.requests.clear()
    with serve(tmp_path, *FLAGS) as served:
        model = ended(served)["model"]
        assert [asked for _, asked in hub.requests] == ["bytes=60000-"]
        assert answer(served) == model
    hub.requests.clear()
    with serve(tmp_path, *FLAGS) as served:  # now it is here, and the starter
        assert ended(served)["status"] == "kept"
        assert answer(served) == model
    assert hub.requests == []


@pytest.mark.parametrize("limit", [LIMIT, 2 << 30])
def test_what_is_fetched_stays_within_the_memory_that_models_may_take(
    hub: Hub, tmp_path: Path, limit: int
) -> None:
    hub.break_after, hub.breaks, hub.hold = 60_000, 1, threading.Event()
    best, *_ = recommend(catalogue(), Machine(vram=0, ram=limit), use="chat")
    with serve(tmp_path, *FLAGS, "--models-memory", str(limit)) as served:
        assert until(served, lambda now: now["model"] is not None)["model"] == best.spec


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("gone", "there is no repository"),
        ("damaged", "came damaged"),
        ("closed", "127.0.0.1"),
        ("not loadable", "unknown model architecture"),
    ],
)
def test_what_fails_leaves_the_starter_and_says_why(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, said: str
) -> None:
    if fault == "gone":
        hub.repos.clear()
    elif fault == "damaged":
        hub.corrupt = True
    elif fault == "closed":
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    else:
        stock(hub, gguf.model("nothing-known"))
    with serve(tmp_path, *FLAGS) as served:
        now = ended(served)
        assert now["status"] == "failed"
        assert said in now["error"]
        assert logged(served, "shimmy-demo goes on")
        assert answer(served) == answer(served, model="auto") == "shimmy-demo"
        assert served.get("/health")[0] == 200


def test_a_model_that_was_named_is_the_starter_and_the_alias_can_be_chosen(
    hub: Hub, tmp_path: Path, tiny_gguf: Path
) -> None:
    hub.repos.clear()
    flags = ("--model-path", str(tiny_gguf), "--alias", "gpt")
    with serve(tmp_path, *FLAGS, *flags) as served:
        assert ended(served)["alias"] == "gpt"
        assert answer(served) == answer(served, model="gpt") == tiny_gguf.stem


def test_a_starter_that_does_not_load_gives_way_to_the_demo(hub: Hub, tmp_path: Path) -> None:
    hub.repos.clear()
    gguf.write(tmp_path / "models" / "odd.gguf", "nothing-known")
    with serve(tmp_path, *FLAGS) as served:
        now = ended(served)
        assert (now["status"], now["starter"]) == ("failed", "shimmy-demo")
        assert logged(served, "auto: odd does not load")
        assert answer(served) == answer(served, model="auto") == "shimmy-demo"
