from __future__ import annotations

import os
import random
import struct
import time

import pytest

from shimmy.models import header as module
from shimmy.models.header import Header, read_header
from tests.models import gguf


def test_architecture_and_kind_are_read(tmp_path):
    path = gguf.write(tmp_path / "a.gguf", "qwen3", "model")
    assert read_header(path) == Header(n_tensors=1, architecture="qwen3", kind="model")


def test_pairs_of_other_types_are_skipped(tmp_path):
    path = tmp_path / "a.gguf"
    path.write_bytes(
        gguf.header(
            ("general.alignment", 32),
            ("general.tags", ["a", "b", "c"]),
            ("general.architecture", "llama"),
        )
    )
    assert read_header(path) == Header(n_tensors=1, architecture="llama")


def test_an_array_of_numbers_is_skipped(tmp_path):
    array = struct.pack("<Q", 1) + b"x" + struct.pack("<IIQ", 9, 6, 3) + bytes(12)
    name = gguf.header(("general.architecture", "llama"))[24:]
    path = tmp_path / "a.gguf"
    path.write_bytes(gguf.header(n_pairs=2) + array + name)
    assert read_header(path) == Header(n_tensors=1, architecture="llama")


@pytest.mark.parametrize(
    ("architecture", "kind", "is_model"),
    [
        ("llama", None, True),
        ("llama", "model", True),
        ("llama", "adapter", False),
        ("clip", None, False),
        ("clip", "mmproj", False),
        ("llama", "imatrix", False),
    ],
)
def test_what_cannot_be_loaded_by_itself_is_no_model(tmp_path, architecture, kind, is_model):
    found = read_header(gguf.write(tmp_path / "a.gguf", architecture, kind))
    assert found is not None
    assert found.is_model is is_model


def test_a_bare_vocabulary_is_no_model(tmp_path):
    path = tmp_path / "vocab.gguf"
    path.write_bytes(gguf.header(("general.architecture", "llama"), n_tensors=0))
    found = read_header(path)
    assert found is not None
    assert not found.is_model


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"GGUF",
        b"GGUF" + bytes(19),
        b"GGML" + bytes(100),
        b"<!DOCTYPE html><html>this is a page that says 404",
        gguf.header(version=1),
        gguf.header(version=0x03000000),
    ],
    ids=["empty", "magic only", "cut", "old format", "a web page", "version 1", "byte-swapped"],
)
def test_other_files_are_not_gguf(tmp_path, content):
    path = tmp_path / "a.gguf"
    path.write_bytes(content)
    assert read_header(path) is None


@pytest.mark.parametrize(
    "tail",
    [
        struct.pack("<Q", 2**63),
        struct.pack("<Q", 3) + b"key" + struct.pack("<I", 99),
        struct.pack("<Q", 3) + b"key" + struct.pack("<IIQ", 9, 8, 2**60),
        struct.pack("<Q", 3) + b"key" + struct.pack("<IIQ", 9, 4, 2**62),
        struct.pack("<Q", 3) + b"key" + struct.pack("<IIQ", 9, 9, 5),
    ],
    ids=["endless key", "unknown type", "endless strings", "endless numbers", "nested array"],
)
def test_hostile_pairs_leave_what_was_found_before(tmp_path, tail):
    good = gguf.header(("general.architecture", "llama"), n_pairs=2**62)
    path = tmp_path / "a.gguf"
    path.write_bytes(good + tail)
    assert read_header(path) == Header(n_tensors=1, architecture="llama")


def test_random_damage_raises_nothing_and_ends_soon(tmp_path):
    rng = random.Random(7)
    good = gguf.header(
        ("general.alignment", 32), ("general.tags", ["a"] * 50), ("general.architecture", "llama")
    )
    path = tmp_path / "a.gguf"
    start = time.perf_counter()
    for _ in range(500):
        damaged = bytearray(good)
        for _ in range(rng.randint(1, 8)):
            damaged[rng.randrange(4, len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged[: rng.randint(4, len(damaged))])
        read_header(path)
    assert time.perf_counter() - start < 5


def test_only_one_block_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 48)
    path = tmp_path / "a.gguf"
    path.write_bytes(gguf.header(("general.name", "x" * 100), ("general.architecture", "llama")))
    assert read_header(path) == Header(n_tensors=1)


def test_a_pipe_called_gguf_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe.gguf")
    assert read_header(tmp_path / "pipe.gguf") is None


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_header(tmp_path / "none.gguf")
