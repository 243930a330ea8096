"""Whoever logs never waits for whoever reads the log."""

from __future__ import annotations

import fcntl
import http.client
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shimmy.cli.line_log import LineLog
from tests.support.tiny_gguf import write_model

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pipes of a given size")

SMALL = 4096
SIZE = 1031  # F_SETPIPE_SZ


def record(text: str) -> logging.LogRecord:
    return logging.LogRecord("x", logging.INFO, "", 0, text, None, None)


def test_lines_that_nobody_reads_are_dropped_and_counted() -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, SIZE, SMALL)
    log = LineLog(writer, n_lines=10)
    began = time.monotonic()
    for i in range(1000):
        log.emit(record(f"{i:0100}"))
    assert time.monotonic() - began < 1
    # every line is read or counted, in one notice or in several; there were more than could wait
    n_sent, n_read, n_dropped, rest = 1000, 0, 0, b""
    while n_read + n_dropped < n_sent:
        *lines, rest = (rest + os.read(reader, 1 << 16)).split(b"\n")
        for line in lines:
            if b"were dropped" in line:
                n_dropped += int(line.split()[0])
            else:
                n_read += 1
        if n_read + n_dropped < n_sent:
            log.emit(record("on"))
            n_sent += 1
    assert n_read + n_dropped == n_sent
    assert n_dropped > 0
    log.flush()
    log.close()
    os.close(reader)


def test_lines_come_in_order_and_all_before_the_end() -> None:
    reader, writer = os.pipe()
    log = LineLog(writer)
    for i in range(100):
        log.emit(record(str(i)))
    log.flush()
    assert os.read(reader, 1 << 16).decode().split() == [str(i) for i in range(100)]
    log.close()
    os.close(reader)


def test_a_server_whose_log_nobody_reads_goes_on(tmp_path: Path) -> None:
    model = write_model(tmp_path / "tiny.gguf")
    command = [sys.executable, "-m", "shimmy", "serve", "-m", str(model), "--bind", "127.0.0.1:0"]
    with subprocess.Popen(
        [*command, "-v", "-c", "512", "-t", "1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            fcntl.fcntl(process.stderr.fileno(), SIZE, SMALL)
            address = ""
            while "http://" not in address:
                address = process.stdout.readline().decode()
            port = int(address.split("http://127.0.0.1:")[1].split("/")[0].split()[0])
            server = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            for _ in range(200):
                server.request("GET", "/v1/models")
                answer = server.getresponse()
                answer.read()
                assert answer.status == 200
            server.close()
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        finally:
            process.kill()
