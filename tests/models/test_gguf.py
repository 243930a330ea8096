"""The reader of headers, against what gguf-py writes and against what nobody should."""

from __future__ import annotations

import contextlib
import os
import struct
import time
import tracemalloc
from collections.abc import Callable

import gguf as gguf_py
import pytest

from shimmy.errors import GgufError, ModelLoadError
from shimmy.models.gguf import metadata as metadata_module
from shimmy.models.gguf import window
from shimmy.models.gguf.file import read_gguf
from shimmy.models.gguf.types import FILE_TYPES, TENSOR_TYPES, ValueType
from tests.models import gguf
from tests.support.tiny_gguf import vocabulary, write_model


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.gguf"


def refused(path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(GgufError) as caught:
        read_gguf(path)
    return caught.value.message


def test_a_header_is_read_as_gguf_py_reads_it(path):
    write_model(path)
    read, known = read_gguf(path), gguf_py.GGUFReader(path)
    assert read.data_offset == known.data_offset
    assert read.end == path.stat().st_size == read.size
    assert [
        (tensor.name, tensor.type, tensor.shape, read.data_offset + tensor.offset, tensor.size)
        for tensor in read.tensors
    ] == [
        (
            tensor.name,
            tensor.tensor_type.name,
            tuple(int(n) for n in tensor.shape),
            tensor.data_offset,
            tensor.n_bytes,
        )
        for tensor in known.tensors
    ]
    for key, field in read.metadata.fields.items():
        if field.value is not None:
            assert field.value == pytest.approx(known.fields[key].contents()), key
    assert read.metadata.n_items("tokenizer.ggml.tokens") == len(vocabulary()[0])


def test_the_tables_of_types_are_ggmls():
    for number, (block, size) in gguf_py.GGML_QUANT_SIZES.items():
        # gguf-py counts Q8_1's two half floats as floats
        if number.name != "Q8_1":
            assert TENSOR_TYPES[number] == (number.name, block, size)
    names = {
        int(number): number.name.removeprefix("MOSTLY_").removeprefix("ALL_")
        for number in gguf_py.LlamaFileType
        if number.name != "GUESSED"
    }
    assert names.items() <= FILE_TYPES.items()


def test_every_type_of_value_is_read(path):
    pairs = {f"x.{kind.name}": (kind, 1) for kind in gguf.FORMATS}
    path.write_bytes(
        gguf.header(*pairs.items(), ("x.text", "ä"), ("x.list", ["a", "b"]), ("x.n", [1, 2]))
    )
    fields = read_gguf(path).metadata.fields
    assert all(
        fields[key].value == 1 and fields[key].type is kind for key, (kind, _) in pairs.items()
    )
    assert fields["x.text"].value == "ä"
    assert (fields["x.list"].value, fields["x.list"].item_type) == (["a", "b"], ValueType.STRING)
    assert fields["x.n"].value == [1, 2]


def test_a_typed_look_never_raises(path):
    path.write_bytes(
        gguf.header(
            ("a", "text"), ("n", 3), ("l", [1, 7, 2]), ("b", True), ("i", (ValueType.INT32, -1))
        )
    )
    metadata = read_gguf(path).metadata
    assert (metadata.text("a"), metadata.text("n"), metadata.text("none")) == ("text", None, None)
    assert [metadata.count(key) for key in ("n", "l", "a", "b", "i")] == [3, 7, None, None, None]
    assert (metadata.flag("b"), metadata.flag("n")) == (True, None)
    assert (metadata.n_items("l"), metadata.n_items("a")) == (3, None)


@pytest.mark.parametrize("block", [8, 9, 17, 64, 4096])
def test_strings_are_skipped_alike_however_the_file_is_cut_into_blocks(path, monkeypatch, block):
    words = ["x" * (number % 90) for number in range(3000)]
    path.write_bytes(gguf.header(("long", words), ("after", "here")))
    monkeypatch.setattr(window, "FIRST_READ", block)
    monkeypatch.setattr(window, "NEXT_READ", block)
    metadata = read_gguf(path).metadata
    assert metadata.n_items("long") == 3000
    assert metadata.fields["long"].value is None
    assert metadata.text("after") == "here"


def time_of(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def chased(n_items: int) -> None:
    """Read as many lengths as there are strings: no reader in Python does it for less."""
    unpack, block, at = struct.Struct("<Q").unpack_from, bytes(8), 0
    for _ in range(n_items):
        at += unpack(block, at)[0]


def test_a_vocabulary_of_152_thousand_takes_less_than_50_ms_and_little_memory(path):
    tokens = [f"token {number}" for number in range(152_000)]
    merges = [f"a{number} b{number}" for number in range(151_000)]
    path.write_bytes(
        gguf.header(("tokenizer.ggml.tokens", tokens), ("tokenizer.ggml.merges", merges))
    )
    # a busy machine shares its cores: a bare loop, measured in turns, says what Python can do right now
    pairs = [
        (time_of(lambda: read_gguf(path)), time_of(lambda: chased(303_000))) for _ in range(10)
    ]
    ours, bare = (min(times) for times in zip(*pairs, strict=True))
    assert ours < max(0.05, 2.5 * bare), f"{ours * 1e3:.0f} ms; a bare loop {bare * 1e3:.0f} ms"
    tracemalloc.start()
    read_gguf(path)
    assert tracemalloc.get_traced_memory()[1] < 8 * 1024 * 1024
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a GGUF model file"),
        (b"GGU", "not a GGUF model file"),
        (b"GGML" + bytes(100), "not a GGUF model file"),
        (b"<!DOCTYPE html><html>this is a page that says 404", "not a GGUF model file"),
        (b"GGUF", "ends inside its header"),
        (b"GGUF\3\0\0\0" + bytes(10), "ends inside its header"),
        (gguf.header(version=0), "version 0"),
        (gguf.header(version=1), "version 1"),
        (gguf.header(version=4), "version 4"),
        (gguf.header(version=0x03000000), "other byte order"),
    ],
)
def test_other_files_are_refused(path, content, reason):
    assert reason in refused(path, content)


def key(name: bytes, kind: int, rest: bytes = b"") -> bytes:
    return struct.pack("<Q", len(name)) + name + struct.pack("<I", kind) + rest


@pytest.mark.parametrize(
    ("n_pairs", "body", "reason"),
    [
        (2**63, b"", "metadata pairs"),
        (9000, b"", "metadata pairs"),
        (1, struct.pack("<Q", 2**63), "key 0 is"),
        (1, struct.pack("<Q", 0), "key 0 is 0 bytes"),
        (1, struct.pack("<Q", 60_000) + b"x", "ends inside"),
        (1, key(b"k", 13), "unknown type 13"),
        (1, key(b"k", 2**32 - 1), "unknown type"),
        (1, key(b"k", 8, struct.pack("<Q", 2**63)), "ends inside"),
        (1, key(b"k", 8, struct.pack("<Q", 2**64 - 1)), "ends inside"),
        (1, key(b"k", 9, struct.pack("<IQ", 9, 1)), "inside an array"),
        (1, key(b"k", 9, struct.pack("<IQ", 77, 1)), "unknown type 77"),
        (1, key(b"k", 9, struct.pack("<IQ", 8, 2**60)), "more than the file has room for"),
        (1, key(b"k", 9, struct.pack("<IQ", 4, 2**62)), "more than the file has room for"),
        (1, key(b"k", 9, struct.pack("<IQ", 8, 2000) + b"\xff" * 16_000), "ends inside"),
        (2, 2 * key(b"k", 4, bytes(4)), "there twice"),
        (1, key(b"general.alignment", 4, struct.pack("<I", 0)), "not a power of two"),
        (1, key(b"general.alignment", 4, struct.pack("<I", 33)), "not a power of two"),
        (1, key(b"general.alignment", 10, struct.pack("<Q", 32)), "not a 32-bit number"),
    ],
)  # fmt: skip
def test_hostile_pairs_are_refused(path, n_pairs, body, reason):
    assert reason in refused(path, gguf.header(n_pairs=n_pairs) + body)


def row(
    name: bytes = b"t", shape: tuple[int, ...] = (32,), kind: int = 0, offset: int = 0
) -> bytes:
    return (
        struct.pack("<Q", len(name))
        + name
        + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)
    )


@pytest.mark.parametrize(
    ("n_tensors", "body", "reason"),
    [
        (2**63, b"", "tensors;"),
        (40_000, b"", "tensors;"),
        (2, row(), "ends inside"),
        (1, row(b"x" * 64), "64 bytes long"),
        (1, row(shape=(1,) * 5), "5 dimensions"),
        (1, row(shape=(2**63,)), "more elements"),
        (1, row(shape=(2**32, 2**32)), "more elements"),
        (1, row(kind=4), "type 4"),
        (1, row(kind=2**32 - 1), "does not know"),
        (1, row(shape=(33,), kind=2), "blocks"),
        (1, row(offset=32), "at 32 instead of 0"),
        (2, row() + row(offset=128), "there twice"),
        (3, b"".join(row(b"%d" % n, (2**61,), 0, n * 2**63 % 2**64) for n in range(3)), "larger than any file"),
    ],
)  # fmt: skip
def test_hostile_tensors_are_refused(path, n_tensors, body, reason):
    assert reason in refused(path, gguf.header(n_tensors=n_tensors) + body)


def test_the_items_of_all_arrays_are_bounded(path, monkeypatch):
    monkeypatch.setattr(metadata_module, "MAX_ITEMS", 5000)
    lists = [(f"k{number}", ["x"] * 1000) for number in range(6)]
    assert "more than 5000 items" in refused(path, gguf.header(*lists))


def pairs(path, count, value):
    """Write a header of many pairs that are alike, each with a key of its own."""
    keys = (b"%08d" % number for number in range(count))
    body = b"".join(struct.pack("<Q", 8) + key + value for key in keys)
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, count) + body)
    return path


@pytest.mark.parametrize("kind", ["numbers", "texts", "keys"])
def test_a_header_of_many_small_things_takes_little_memory(path, kind):
    if kind == "numbers":  # 2 million of them, if all were kept
        pairs(path, 2000, struct.pack("<IIQ", 9, 10, 1000) + bytes(range(1, 251)) * 32)
    elif kind == "texts":
        pairs(path, 2000, struct.pack("<IIQ", 9, 8, 1000) + struct.pack("<Q2s", 2, b"ab") * 1000)
    else:
        long = (b"%08d" % number + b"k" * 60_000 for number in range(1000))
        body = b"".join(
            struct.pack("<Q", len(key)) + key + struct.pack("<IB", 0, 1) for key in long
        )
        path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1000) + body)
    tracemalloc.start()
    try:
        with contextlib.suppress(GgufError):
            read_gguf(path)
        assert tracemalloc.get_traced_memory()[1] < 40 * 1024 * 1024
    finally:
        tracemalloc.stop()


def test_texts_that_are_too_long_are_skipped_not_kept(path, monkeypatch):
    monkeypatch.setattr(metadata_module, "MAX_TEXT", 100)
    path.write_bytes(
        gguf.header(("tokenizer.huggingface.json", "x" * 101), ("general.name", "x" * 100))
    )
    metadata = read_gguf(path).metadata
    assert metadata.text("tokenizer.huggingface.json") is None
    assert metadata.text("general.name") == "x" * 100


def test_the_header_is_bounded(path, monkeypatch):
    monkeypatch.setattr(window, "MAX_HEADER", 1000)
    monkeypatch.setattr(window, "FIRST_READ", 100)
    assert "header is longer" in refused(path, gguf.header(("k", "x" * 2000)))


def test_text_that_is_not_utf8_does_no_harm(path):
    path.write_bytes(
        gguf.header(n_pairs=1) + key(b"\xff\xfe", 8, struct.pack("<Q", 2) + b"\xff\xff")
    )
    assert read_gguf(path).metadata.text("\ufffd\ufffd") == "\ufffd\ufffd"


def test_a_pipe_called_gguf_does_not_block(path):
    os.mkfifo(path)
    with pytest.raises(GgufError, match="not a file"):
        read_gguf(path)


def test_a_missing_file_is_an_os_error(path):
    with pytest.raises(FileNotFoundError):
        read_gguf(path)


def test_a_refused_header_is_a_load_error():
    assert issubclass(GgufError, ModelLoadError)
