"""/slots over HTTP, in llama-server's words, on a real engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.served import Served, serve


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sessions")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, sessions: Path) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("home")
    with serve(home, "-np", "2", "--slot-save-path", str(sessions)) as server:
        yield server


def chat(served: Served, text: str) -> dict:
    body = {"messages": [{"role": "user", "content": text}], "max_tokens": 8, "temperature": 0}
    status, answer = served.post("/v1/chat/completions", body)
    assert status == 200, answer
    return answer


def test_a_session_is_saved_erased_and_restored(served: Served, sessions: Path) -> None:
    first = chat(served, "What is the capital of France?")
    status, slots = served.get("/slots")
    assert status == 200
    assert [slot["id"] for slot in slots] == [0, 1]
    assert not any(slot["is_processing"] for slot in slots)
    (slot,) = [one["id"] for one in slots if one["n_past"]]

    status, saved = served.post(f"/slots/{slot}?action=save", {"filename": "france.bin"})
    assert status == 200, saved
    assert saved["id_slot"] == slot
    assert saved["filename"] == "france.bin"
    assert saved["n_written"] == (sessions / "france.bin").stat().st_size
    assert saved["timings"]["save_ms"] > 0

    status, erased = served.post(f"/slots/{slot}?action=erase", {})
    assert (status, erased) == (200, {"id_slot": slot, "n_erased": saved["n_saved"]})

    status, restored = served.post(f"/slots/{slot}?action=restore", {"filename": "france.bin"})
    assert status == 200, restored
    assert restored["n_restored"] == saved["n_saved"]
    assert restored["n_read"] == saved["n_written"]
    assert restored["timings"]["restore_ms"] > 0

    again = chat(served, "What is the capital of France?")
    assert again["choices"][0]["message"] == first["choices"][0]["message"]
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] > 0


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/slots/0?action=save", {"filename": "../x"}, "filename"),
        ("/slots/0?action=save", {"filename": "a/b"}, "filename"),
        ("/slots/0?action=save", {}, "filename"),
        ("/slots/0?action=save", {"filename": 3}, "filename"),
        ("/slots/0?action=restore", {"filename": "none"}, "filename"),
        ("/slots/9?action=erase", {}, "id_slot"),
        ("/slots/x?action=erase", {}, "id_slot"),
        ("/slots/-1?action=erase", {}, "id_slot"),
        ("/slots/0?action=burn", {}, "action"),
        ("/slots/0", {}, "action"),
    ],
)
def test_a_bad_request_names_its_field(served: Served, path: str, body: dict, param: str) -> None:
    status, answer = served.post(path, body)
    assert status == 400, answer
    assert answer["error"]["param"] == param


def test_without_the_flag_there_are_no_sessions(tmp_path: Path) -> None:
    with serve(tmp_path, "-np", "2") as server:
        assert server.get("/slots")[0] == 200
        status, answer = server.post("/slots/0?action=save", {"filename": "a"})
    assert status == 400
    assert answer["error"]["code"] == "not_supported"
    assert "--slot-save-path" in answer["error"]["message"]
