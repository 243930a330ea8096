"""What the server process takes by itself: native code and weights are the workers'."""

from __future__ import annotations

from pathlib import Path

import psutil

from tests.support.served import serve

MOST = 60e6
"""Bytes resident, with no model loaded."""


def test_an_idle_server_without_a_model_is_small(tmp_path: Path) -> None:
    with serve(tmp_path) as server:
        server.wait_healthy()
        worker = server.worker_pid()
        status, _ = server.post("/api/models/shimmy-demo/unload", {})
        assert status == 200
        assert not psutil.pid_exists(worker)
        assert psutil.Process(server.process.pid).memory_info().rss < MOST
