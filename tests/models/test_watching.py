"""A running server and files that come and go."""

from __future__ import annotations

import time

from tests.models import gguf
from tests.support import tiny_gguf
from tests.support.served import serve

CHAT = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}


def test_a_file_that_was_put_there_after_the_start_answers(tmp_path):
    with serve(tmp_path) as served:
        status, body = served.post("/v1/chat/completions", CHAT | {"model": "newcomer-1b"})
        assert status == 404
        assert body["error"]["type"] == "invalid_request_error"
        (tmp_path / "models").mkdir()
        tiny_gguf.write_model(tmp_path / "models" / "newcomer-1b.gguf")
        gguf.write(tmp_path / "models" / "bert.gguf", "bert")
        end = time.monotonic() + 30
        while status == 404 and time.monotonic() < end:
            time.sleep(0.2)
            status, body = served.post("/v1/chat/completions", CHAT | {"model": "newcomer-1b"})
        assert status == 200, body
        assert body["model"] == "newcomer-1b"
        status, body = served.get("/v1/models")
        assert [model["id"] for model in body["data"]] == ["bert", "newcomer-1b", "shimmy-demo"]
        status, body = served.post("/v1/chat/completions", CHAT | {"model": "new-comer-1b-q4"})
        assert status == 404
        assert "Did you mean 'newcomer-1b'?" in body["error"]["message"]


def test_a_file_that_would_abort_llama_cpp_reaches_no_worker(tmp_path):
    """Of native.md 7.1: the model is not offered, and the loaded one goes on."""
    gguf.write(tmp_path / "models" / "bad.gguf", fields={"llama.block_count": 0})
    with serve(tmp_path) as served:
        pid = served.worker_pid()
        status, body = served.post("/v1/chat/completions", CHAT | {"model": "bad"})
        assert (status, body["error"]["code"]) == (404, "model_not_found")
        status, _ = served.post("/v1/chat/completions", CHAT | {"model": "shimmy-demo"})
        assert status == 200
        assert served.worker_pid() == pid
