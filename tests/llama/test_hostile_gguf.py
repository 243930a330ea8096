"""Model files that are broken or made to break: each is a ModelLoadError, and the process lives on."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from shimmy.errors import ModelLoadError
from shimmy.llama import Batch, Context, ContextParams, DecodeStatus, Model, ModelParams
from tests.support import tiny_gguf as tiny

U32, I32, F32 = gguf.GGUFValueType.UINT32, gguf.GGUFValueType.INT32, gguf.GGUFValueType.FLOAT32
U16, U64 = gguf.GGUFValueType.UINT16, gguf.GGUFValueType.UINT64
STRING, ARRAY = gguf.GGUFValueType.STRING, gguf.GGUFValueType.ARRAY


@pytest.fixture(autouse=True)
def _the_process_still_works(tiny_gguf: Path):
    yield
    with Model.load(tiny_gguf) as model, Context(model, ContextParams(n_ctx=256)) as context:
        assert context.decode(Batch.of([1, 2, 3])) is DecodeStatus.OK


def refused(path: Path, params: ModelParams | None = None) -> str:
    with pytest.raises(ModelLoadError) as caught:
        Model.load(path, params)
    assert caught.value.log, "llama.cpp's own lines go along"
    return str(caught.value)


# native.md 7.1: headers that trip a GGML_ASSERT in the loader
ABORTS: dict[str, dict[str, Any]] = {
    "block_count 0": {"fields": {"{arch}.block_count": (0, U32)}},
    "block_count 513": {"fields": {"{arch}.block_count": (513, U32)}},
    "block_count 2^32-1": {"fields": {"{arch}.block_count": (2**32 - 1, U32)}},
    "expert_count without expert_used_count": {
        "n_expert": 4,
        "fields": {"{arch}.expert_used_count": (0, U32)},
    },
    "expert_used_count > expert_count": {
        "n_expert": 4,
        "fields": {"{arch}.expert_used_count": (5, U32)},
    },
    "expert_used_count without experts": {"fields": {"{arch}.expert_used_count": (2, U32)}},
    "expert_count > 1024": {
        "fields": {"{arch}.expert_count": (1025, U32), "{arch}.expert_used_count": (2, U32)}
    },
    "expert_group_count > expert_count": {
        "n_expert": 4,
        "fields": {"{arch}.expert_group_count": (9, U32)},
    },
    "unknown rope.scaling.type": {"fields": {"{arch}.rope.scaling.type": ("sideways", STRING)}},
}


@pytest.mark.parametrize("case", ABORTS)
def test_headers_that_trip_an_assertion(tiny_of, case: str) -> None:
    assert "GGML_ASSERT" in refused(tiny_of(**ABORTS[case]))


def test_split_no_of_the_wrong_type_in_a_later_shard(tmp_path: Path) -> None:
    first, second = tiny.write_splits(tmp_path)
    content = second.read_bytes()
    key = content.index(b"split.no") + len("split.no")
    assert content[key] == U16
    tiny.patch(second, second, key, bytes([gguf.GGUFValueType.INT16]))
    assert "GGML_ASSERT" in refused(first)


# native.md 7.1: what the loader reports by itself
GRACEFUL: dict[str, tuple[dict[str, Any], str]] = {
    "unknown architecture": (
        {"fields": {"general.architecture": ("perpetuum", STRING)}},
        "unknown model architecture: 'perpetuum'",
    ),
    "no architecture": ({"drop": ("general.architecture",)}, "unknown model architecture: ''"),
    "no block_count": ({"drop": ("{arch}.block_count",)}, "block_count"),
    "block_count of the wrong type": (
        {"fields": {"{arch}.block_count": ("two", STRING)}},
        "block_count",
    ),
    "more layers than tensors": (
        {"fields": {"{arch}.block_count": (3, U32)}},
        "'blk.2.attn_norm.weight'",
    ),
    "missing tensor": (
        {"drop": ("blk.1.ffn_up.weight",)},
        "'blk.1.ffn_up.weight' not found",
    ),
    "wrong shapes": ({"fields": {"{arch}.feed_forward_length": (64, U32)}}, "wrong shape"),
    "split.no of the wrong type": (
        {"fields": {"split.no": (0, U32), "split.count": (2, U16)}},
        "split.no has wrong type",
    ),
    "head_count 0": ({"fields": {"{arch}.attention.head_count": (0, U32)}}, "error loading model"),
    "head_count an array of another length": (
        {"fields": {"{arch}.attention.head_count": ([2, 2, 2], ARRAY)}},
        "head_count",
    ),
    "wrong n_rot": ({"fields": {"{arch}.rope.dimension_count": (7, U32)}}, "n_rot"),
    "unknown tokenizer": (
        {"fields": {"tokenizer.ggml.model": ("abacus", STRING)}},
        "unknown tokenizer",
    ),
    "unknown pre-tokenizer": (
        {"fields": {"tokenizer.ggml.pre": ("abacus", STRING)}},
        "unknown pre-tokenizer",
    ),
    "no merges": ({"drop": ("tokenizer.ggml.merges",)}, "merges"),
    "no tokens": ({"drop": ("tokenizer.ggml.tokens",)}, "tokenizer vocab"),
    "alignment 0": ({"fields": {"general.alignment": (0, U32)}}, "alignment"),
    "alignment 33": ({"fields": {"general.alignment": (33, U32)}}, "alignment"),
}


@pytest.mark.parametrize("case", GRACEFUL)
def test_headers_that_the_loader_refuses(tiny_of, case: str) -> None:
    options, reason = GRACEFUL[case]
    assert reason in refused(tiny_of(**options))


@pytest.mark.parametrize("keep", [0.0, 0.0001, 0.01, 0.1, 0.3, 0.6, 0.9, 0.999])
def test_truncated_files(tiny_gguf: Path, tmp_path: Path, keep: float) -> None:
    refused(tiny.truncate(tiny_gguf, tmp_path / "t.gguf", keep))


@pytest.mark.parametrize(
    ("offset", "data", "reason"),
    [
        (0, b"GGML", "magic"),
        (0, b"FUGG", "magic"),
        (4, struct.pack("<I", 0), "version"),
        (4, struct.pack("<I", 1), "version"),
        (4, struct.pack("<I", 99), "version"),
        (4, struct.pack("<I", 0x03000000), "endian"),
        (24, struct.pack("<Q", 2**63), "key"),
        (24, struct.pack("<Q", 2**40), "key"),
    ],
)
def test_broken_headers(
    tiny_gguf: Path, tmp_path: Path, offset: int, data: bytes, reason: str
) -> None:
    assert reason in refused(tiny.patch(tiny_gguf, tmp_path / "p.gguf", offset, data))


@pytest.mark.parametrize(
    "counts",
    [
        {"n_kv": 2**63},
        {"n_kv": 2**64 - 1},
        {"n_kv": 2**32},
        {"n_kv": 0},
        {"n_tensors": 2**63},
        {"n_tensors": 2**64 - 1},
        {"n_tensors": 2**31},
        {"n_tensors": 0},
    ],
    ids=str,
)
def test_absurd_counts(tiny_gguf: Path, tmp_path: Path, counts: dict[str, int]) -> None:
    refused(tiny.patch_counts(tiny_gguf, tmp_path / "c.gguf", **counts))


def test_a_tensor_type_that_no_kernel_knows(tmp_path: Path) -> None:
    """The loader takes float64; computing with it would abort on a compute thread."""
    path = tmp_path / "f64.gguf"
    writer_tensor = gguf.GGUFWriter.add_tensor

    def as_float64(self: gguf.GGUFWriter, name: str, tensor: np.ndarray, **options: Any) -> None:
        wide = tensor.astype(np.float64) if name == "blk.0.attn_norm.weight" else tensor
        writer_tensor(self, name, wide, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gguf.GGUFWriter, "add_tensor", as_float64)
        tiny.write_model(path)
    with pytest.raises(ModelLoadError, match=r"blk\.0\.attn_norm\.weight has type f64"):
        Model.load(path)


def test_check_tensors_finds_what_is_no_number(tiny_gguf: Path, tmp_path: Path) -> None:
    content = tiny_gguf.read_bytes()
    path = tiny.patch(tiny_gguf, tmp_path / "nan.gguf", len(content) - 64, b"\xff" * 32)
    with Model.load(path):
        pass  # llama.cpp looks at the numbers only when asked
    assert "invalid data" in refused(path, ModelParams(check_tensors=True))


@pytest.mark.parametrize(
    "fields",
    [
        {"{arch}.vocab_size": (2**32 - 1, U32)},
        {"{arch}.pooling_type": (99, U32)},
        {"{arch}.context_length": (2**32 - 1, U32)},
        {"general.file_type": (9999, U32)},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_garbage_that_llama_cpp_ignores(tiny_of, fields: dict[str, Any]) -> None:
    with Model.load(tiny_of(fields=fields)) as model:
        assert model.n_layer == 2
        assert model.ftype


def test_random_damage_to_the_metadata_never_ends_the_process(
    tiny_gguf: Path, tmp_path: Path
) -> None:
    """Bytes of the key-value section, where lengths, types and counts are."""
    content = tiny_gguf.read_bytes()
    start = content.index(b"llama.block_count")
    rng = np.random.default_rng(17)
    path = tmp_path / "fuzz.gguf"
    loaded = 0
    for _ in range(300):
        broken = bytearray(content)
        for _ in range(2):
            broken[int(rng.integers(8, start + 400))] = int(rng.integers(0, 256))
        path.write_bytes(broken)
        try:
            with Model.load(path):
                loaded += 1
        except ModelLoadError:
            pass
    assert loaded < 300
