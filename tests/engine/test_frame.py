"""Messages survive the pipe, and a broken stream ends instead of hanging."""

from __future__ import annotations

import math
import os
import threading

import msgspec
import pytest

from shimmy import errors
from shimmy.engine.types.event import Accepted, Delta, Failed, Finished, Timings, Usage
from shimmy.engine.types.frame import (
    HEADER,
    Cancel,
    Step,
    Submit,
    decode_command,
    decode_report,
    encode_frame,
)
from shimmy.engine.types.prompt import ChatPrompt, Message, TokenPrompt
from shimmy.engine.types.request import GenerateRequest
from shimmy.engine.types.sampling import SamplingParams
from shimmy.worker.pipe import FrameReader, FrameWriter

FINISHED = Finished(
    reason="stop",
    usage=Usage(prompt_tokens=3, completion_tokens=2),
    timings=Timings(queue_ms=0.5, prompt_ms=1.0, predicted_ms=2.0),
    stop="END",
)


@pytest.mark.parametrize(
    "prompt",
    [
        TokenPrompt([1, 2]),
        ChatPrompt(
            messages=[Message(role="user", content="hé 😀")], json_schema={"type": "object"}
        ),
    ],
    ids=["tokens", "chat"],
)
def test_a_command_survives_the_pipe(prompt: TokenPrompt | ChatPrompt) -> None:
    sampling = SamplingParams(temperature=0.5, logit_bias={3: -math.inf})
    command = Submit(7, GenerateRequest(prompt=prompt, sampling=sampling, stop=["a"]))
    assert decode_command(encode_frame(command)[HEADER.size :]) == command


def test_a_report_survives_the_pipe() -> None:
    report = Step([(1, Accepted(3)), (1, Delta(text="ü", n_tokens=2)), (1, FINISHED)])
    assert decode_report(encode_frame(report)[HEADER.size :]) == report


@pytest.mark.parametrize(
    "error",
    [
        errors.ContextLengthError(10, 5, param="prompt"),
        errors.InvalidRequestError("no", param="seed"),
        errors.ImageError("no", param="messages"),
        errors.EngineDeadError("gone"),
        errors.ModelLoadError("bad file", log=("line one", "line two")),
        errors.OverloadedError("full"),
        errors.ConfigError("no such device", param="--device"),
    ],
    ids=lambda error: error.code,
)
def test_an_error_comes_back_as_what_it_was(error: errors.ShimmyError) -> None:
    rebuilt = Failed.of(error).error()
    assert type(rebuilt) is type(error)
    assert str(rebuilt) == str(error)
    assert getattr(rebuilt, "param", None) == getattr(error, "param", None)


def test_an_unexpected_error_keeps_its_type_in_the_message() -> None:
    rebuilt = Failed.of(KeyError("x")).error()
    assert type(rebuilt) is errors.ShimmyError
    assert "KeyError" in str(rebuilt)


def test_frames_cross_a_real_pipe_in_order_and_its_end_is_none() -> None:
    read_fd, write_fd = os.pipe()
    try:
        os.write(write_fd, encode_frame(Cancel(1)) + encode_frame(Cancel(2)))
        os.write(write_fd, HEADER.pack(100) + b"cut off")
        os.close(write_fd)
        reader = FrameReader(read_fd)
        assert reader.read() == Cancel(1)
        assert reader.read() == Cancel(2)
        assert reader.read() is None
    finally:
        os.close(read_fd)


def test_a_frame_over_the_limit_is_refused_before_it_is_read() -> None:
    read_fd, write_fd = os.pipe()
    try:
        os.write(write_fd, HEADER.pack(2**31))
        with pytest.raises(ValueError, match="limit"):
            FrameReader(read_fd).read()
    finally:
        os.close(read_fd)
        os.close(write_fd)


def test_frames_of_several_threads_do_not_mix() -> None:
    read_fd, write_fd = os.pipe()
    writer = FrameWriter(write_fd)
    big = "x" * 100_000

    def write(i: int) -> None:
        for _ in range(5):
            writer.write(Step([(i, Delta(text=big))]))

    threads = [threading.Thread(target=write, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    data = bytearray()
    while len(data) < 20 * len(encode_frame(Step([(1, Delta(text=big))]))):
        data += os.read(read_fd, 1 << 20)
    for thread in threads:
        thread.join()
    os.close(read_fd)
    os.close(write_fd)
    n_frames = 0
    while data:
        (size,) = HEADER.unpack_from(data)
        report = decode_report(bytes(data[HEADER.size : HEADER.size + size]))
        assert isinstance(report, Step)
        del data[: HEADER.size + size]
        n_frames += 1
    assert n_frames == 20


def test_a_writer_whose_reader_is_gone_does_not_raise() -> None:
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    FrameWriter(write_fd).write(Step([(1, Accepted(1))]))
    os.close(write_fd)


def test_an_unknown_message_is_an_error_and_not_a_crash() -> None:
    with pytest.raises(msgspec.ValidationError):
        decode_command(msgspec.msgpack.encode({"type": "launch"}))
