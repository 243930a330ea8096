"""Whoever logs never waits for whoever reads the log."""

from __future__ import annotations

import fcntl
import http.client
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shimmy.cli.line_log import LineLog
from shimmy.log_format import JsonLines
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


def test_a_log_of_json_has_one_object_per_line(tmp_path: Path) -> None:
    model = write_model(tmp_path / "tiny.gguf")
    command = [sys.executable, "-m", "shimmy", "serve", "-m", str(model), "--bind", "127.0.0.1:0"]
    with subprocess.Popen(
        [*command, "-vv", "-c", "512", "-t", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"SHIMMY_LOG_FORMAT": "json"},
    ) as process:
        try:
            assert process.stdout is not None
            while b"ready" not in (line := process.stdout.readline()):
                assert line, "it ended before it was ready"
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=20)
        finally:
            process.kill()
    lines = [json.loads(line) for line in said.decode().splitlines()]
    assert lines
    assert all(set(line) == {"time", "level", "logger", "message"} for line in lines)
    assert abs(lines[-1]["time"] - time.time()) < 60
    assert {line["level"] for line in lines} <= {"debug", "info", "warning"}
    # those of the worker too
    assert {"shimmy.llama", "shimmy.server.lifecycle"} <= {line["logger"] for line in lines}


def test_what_was_dropped_is_said_in_json_too() -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, SIZE, SMALL)
    log = LineLog(writer, n_lines=1)
    log.setFormatter(JsonLines())
    for i in range(200):
        log.emit(record(f"{i:0100}"))
    said = b""
    while b"were dropped" not in said:
        said += os.read(reader, 1 << 16)
        log.emit(record("ä"))
    log.flush()
    os.set_blocking(reader, False)
    said += os.read(reader, 1 << 16)
    objects = [json.loads(line) for line in said.decode().splitlines()]
    notices = [one for one in objects if "were dropped" in one["message"]]
    assert notices[0]["level"] == "warning"
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
