"""Mixtures of experts to measure with: random weights at real shapes and in the real formats, written block by block.

Which experts a token gets depends on its text as it does in a trained model, so the same share of the experts is read. The
weights are random blocks of the quantised formats themselves: a file of 12 GB takes its own size on the disk and little memory.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gguf
import models
import numpy as np
from gguf import GGMLQuantizationType as Kind
from numpy.typing import NDArray
from reference import BUILD

# bytes of a block of 32 weights, and the place of its scale
_BLOCK = 32
_BYTES = {Kind.MXFP4: 17, Kind.Q8_0: 34, Kind.Q4_0: 18}
# the root mean square of a block's random integers
_RMS = {Kind.MXFP4: 2.93, Kind.Q8_0: 73.6, Kind.Q4_0: 4.64}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """A shape; `dense` and `experts` are the formats of attention and embeddings, and of the experts."""

    arch: str
    n_layer: int
    n_embd: int
    n_head: int
    n_head_kv: int
    head_dim: int
    n_ff: int
    n_expert: int
    n_expert_used: int
    n_vocab: int
    n_ctx: int
    dense: Kind
    experts: Kind


MIXTURES = {
    "gpt-oss-20b": Mixture(
        arch="gpt-oss", n_layer=24, n_embd=2880, n_head=64, n_head_kv=8, head_dim=64, n_ff=2880,
        n_expert=32, n_expert_used=4, n_vocab=201088, n_ctx=131072, dense=Kind.Q8_0, experts=Kind.MXFP4,
    ),
    "olmoe-7b": Mixture(
        arch="olmoe", n_layer=16, n_embd=2048, n_head=16, n_head_kv=16, head_dim=128, n_ff=1024,
        n_expert=64, n_expert_used=8, n_vocab=50304, n_ctx=4096, dense=Kind.Q8_0, experts=Kind.Q4_0,
    ),
    # gpt-oss's architecture at a size that a CPU runs at once
    "gpt-oss-tiny": Mixture(
        arch="gpt-oss", n_layer=4, n_embd=256, n_head=4, n_head_kv=2, head_dim=64, n_ff=256,
        n_expert=8, n_expert_used=2, n_vocab=4096, n_ctx=4096, dense=Kind.Q8_0, experts=Kind.MXFP4,
    ),
}  # fmt: skip

Tensors = dict[str, tuple[tuple[int, ...], Kind]]


def mixture(name: str, directory: Path | None = None) -> Path:
    """Return the file of a mixture, from `directory` or made in build/bench/models."""
    for place in (directory, BUILD / "models"):
        if place is not None and (place / f"{name}.gguf").is_file():
            return place / f"{name}.gguf"
    path = BUILD / "models" / f"{name}.gguf"
    path.parent.mkdir(parents=True, exist_ok=True)
    print(f"making {path}", file=sys.stderr, flush=True)
    new = path.with_suffix(".new")
    try:
        write(new, name)
        new.rename(path)
    finally:
        new.unlink(missing_ok=True)
    return path


def write(path: Path, name: str) -> None:
    """Write a mixture of a shape."""
    shape = MIXTURES[name]
    writer = gguf.GGUFWriter(path, shape.arch)
    writer.add_name(f"{name}-random")
    _describe(writer, shape)
    models.add_vocabulary(writer, shape.n_vocab)
    tensors = _tensors(shape)
    for tensor, (dims, kind) in tensors.items():
        n_bytes = (
            gguf.quant_shape_to_byte_shape(dims, kind)
            if kind in _BYTES
            else (*dims[:-1], 4 * dims[-1])
        )
        writer.add_tensor_info(tensor, dims, np.dtype(np.float32), int(np.prod(n_bytes)), kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    rng = np.random.default_rng(7)
    for tensor, (dims, kind) in tensors.items():
        data = _weights(rng, tensor, dims, kind)
        if tensor == "output.weight":
            _quieten(data, dims, kind)
        writer.write_tensor_data(data)
    writer.close()


def _describe(writer: gguf.GGUFWriter, shape: Mixture) -> None:
    writer.add_context_length(shape.n_ctx)
    writer.add_embedding_length(shape.n_embd)
    writer.add_block_count(shape.n_layer)
    writer.add_feed_forward_length(shape.n_ff)
    writer.add_expert_feed_forward_length(shape.n_ff)
    writer.add_expert_count(shape.n_expert)
    writer.add_expert_used_count(shape.n_expert_used)
    writer.add_head_count(shape.n_head)
    writer.add_head_count_kv(shape.n_head_kv)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    if shape.arch == "gpt-oss":
        writer.add_rope_freq_base(150000.0)
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(32.0)
        writer.add_rope_scaling_orig_ctx_len(4096)
        writer.add_sliding_window(128)
    else:
        writer.add_rope_freq_base(10000.0)


def _tensors(shape: Mixture) -> Tensors:
    """Return the shape and format of every tensor, in the order of the file."""
    tensors: Tensors = {
        "token_embd.weight": ((shape.n_vocab, shape.n_embd), shape.dense),
        "output.weight": ((shape.n_vocab, shape.n_embd), shape.dense),
        "output_norm.weight": ((shape.n_embd,), Kind.F32),
    }
    for i in range(shape.n_layer):
        for part, dims, kind in _block(shape):
            tensors[f"blk.{i}.{part}"] = (dims, kind)
    return tensors


def _block(shape: Mixture) -> Iterator[tuple[str, tuple[int, ...], Kind]]:
    embd, ff, n = shape.n_embd, shape.n_ff, shape.n_expert
    n_q, n_kv = shape.n_head * shape.head_dim, shape.n_head_kv * shape.head_dim
    yield "attn_norm.weight", (embd,), Kind.F32
    for part, rows, columns in (
        ("q", n_q, embd),
        ("k", n_kv, embd),
        ("v", n_kv, embd),
        ("output", embd, n_q),
    ):
        yield f"attn_{part}.weight", (rows, columns), shape.dense
        if shape.arch == "gpt-oss":
            yield f"attn_{part}.bias", (rows,), Kind.F32
    yield "ffn_gate_inp.weight", (n, embd), Kind.F32
    for part, rows, columns in (("gate", ff, embd), ("up", ff, embd), ("down", embd, ff)):
        yield f"ffn_{part}_exps.weight", (n, rows, columns), shape.experts
        if shape.arch == "gpt-oss":
            yield f"ffn_{part}_exps.bias", (n, rows), Kind.F32
    if shape.arch == "gpt-oss":
        yield "ffn_gate_inp.bias", (n,), Kind.F32
        yield "post_attention_norm.weight", (embd,), Kind.F32
        yield "attn_sinks.weight", (shape.n_head,), Kind.F32
    else:
        yield "ffn_norm.weight", (embd,), Kind.F32
        yield "attn_q_norm.weight", (n_q,), Kind.F32
        yield "attn_k_norm.weight", (n_kv,), Kind.F32


def _weights(
    rng: np.random.Generator, name: str, dims: tuple[int, ...], kind: Kind
) -> NDArray[np.generic]:
    if kind in _BYTES:
        return _blocks(rng, dims, kind)
    if "norm" in name:
        return np.ones(dims, np.float32)
    return rng.standard_normal(dims, np.float32) * np.float32(dims[-1] ** -0.5)


def _blocks(rng: np.random.Generator, dims: tuple[int, ...], kind: Kind) -> NDArray[np.uint8]:
    """Return random blocks whose values are about as large as a trained model's: 1 / sqrt(columns)."""
    n_blocks = int(np.prod(dims)) // _BLOCK
    data = np.frombuffer(rng.bytes(n_blocks * _BYTES[kind]), np.uint8).copy().reshape(n_blocks, -1)
    scale = dims[-1] ** -0.5 / _RMS[kind]
    if kind is Kind.MXFP4:
        # a power of two, and ggml's table of this format holds doubled values
        data[:, 0] = 127 + round(np.log2(scale))
    else:
        data[:, :2] = np.frombuffer(np.float16(scale).tobytes(), np.uint8)
    return data


def _quieten(data: NDArray[np.generic], dims: tuple[int, ...], kind: Kind) -> None:
    """Let single bytes and specials never be the likeliest: what is generated is then text, and shows at once."""
    assert kind is Kind.Q8_0
    rows = data.reshape(dims[0], dims[1] // _BLOCK, _BYTES[kind])
    small = np.frombuffer(np.float16(1e-6).tobytes(), np.uint8)
    rows[:256, :, :2] = small
    rows[-len(models.SPECIALS) :, :, :2] = small
