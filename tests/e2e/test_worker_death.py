"""`kill -9` of the worker in the middle of 8 streams, as clients of a real server see it."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import openai

from tests.support.served import Served, serve

STREAMS = 8
ROUNDS = 20


class Stream(threading.Thread):
    """An endless stream; `error` is what ended it."""

    def __init__(self, client: openai.OpenAI, number: int) -> None:
        super().__init__()
        self.client = client
        self.number = number
        self.n_chunks = 0
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            for _ in self.client.completions.create(
                model="shimmy-demo",
                prompt=f"Story number {self.number}: Once upon a time",
                max_tokens=2000,
                stream=True,
                extra_body={"ignore_eos": True},
            ):
                self.n_chunks += 1
        except openai.APIError as error:
            self.error = error


def one_round(served: Served, client: openai.OpenAI) -> None:
    streams = [Stream(client, i) for i in range(STREAMS)]
    for stream in streams:
        stream.start()
    deadline = time.monotonic() + 60
    while any(stream.n_chunks < 2 for stream in streams) and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(served.worker_pid(), signal.SIGKILL)
    for stream in streams:
        stream.join(10)
    assert not any(stream.is_alive() for stream in streams)
    for stream in streams:
        assert stream.n_chunks >= 2
        assert stream.error is not None
        assert "worker" in str(stream.error)
    served.wait_healthy()
    answer = client.completions.create(model="shimmy-demo", prompt="Once", max_tokens=2)
    assert answer.usage is not None
    assert answer.usage.completion_tokens >= 1


def test_killing_the_worker_gives_8_clean_errors_and_recovers_20_times_in_a_row(
    tmp_path: Path,
) -> None:
    with (
        serve(tmp_path, "-np", str(STREAMS)) as served,
        openai.OpenAI(base_url=served.url + "/v1", api_key="none", max_retries=0) as client,
    ):
        for _ in range(ROUNDS):
            one_round(served, client)
        assert served.wait_healthy()["restarts"] == ROUNDS
