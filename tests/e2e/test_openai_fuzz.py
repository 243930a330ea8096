"""Bodies made from /openapi.json, and mutated ones: no answer is a 5xx, and no worker dies of them."""

from __future__ import annotations

import http.client
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shimmy.server.dialects import infill, native, openai_chat, openai_completions
from tests.server.test_fuzz import FIELDS, QUESTIONS, SEEDS, mutate
from tests.support.served import Served, serve

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)
PATHS = {
    openai_chat: "/v1/chat/completions",
    openai_completions: "/v1/completions",
    native: "/api/generate",
    infill: "/infill",
}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server whose context is soon full: no request runs for long."""
    with serve(tmp_path_factory.mktemp("home"), "-np", "4", "-c", "512") as server:
        yield server
        assert server.wait_healthy()["restarts"] == 0


def test_schemathesis_finds_no_server_error(small: Served, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("schemathesis"), "run"),
            small.url + "/openapi.json",
            *("--phases", "coverage,fuzzing", "--max-time", "12", "--workers", "1"),
            *("--checks", ",".join(CHECKS), "--request-timeout", "30"),
            *("--generation-database", "none", "--no-color", "--warnings", "off"),
        ],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout[-8000:]


def bodies() -> Iterator[tuple[str, object]]:
    rng = random.Random(13)
    for dialect, path in PATHS.items():
        for _ in range(80):
            yield path, mutate(SEEDS[dialect], FIELDS[dialect], rng)
    for name, path in (("embeddings", "/v1/embeddings"), ("rerank", "/v1/rerank")):
        _, seed, _ = QUESTIONS[name]
        for _ in range(40):
            yield path, mutate(seed, tuple(seed), rng)


def test_a_mutated_body_is_answered_with_a_2xx_or_a_4xx(small: Served) -> None:
    connection = http.client.HTTPConnection(small.url.removeprefix("http://"), timeout=30)
    seen = set()
    for path, body in bodies():
        connection.request("POST", path, json.dumps(body))
        answer = connection.getresponse()
        text = answer.read()
        seen.add(answer.status)
        assert answer.status < 500, (path, body, text)
        # a stream carries its errors
        assert b"server_error" not in text, (path, body, text)
    connection.close()
    assert {200, 400} <= seen
