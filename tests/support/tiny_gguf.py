"""Tiny random-weight GGUFs for tests: real architectures, milliseconds to write and to load.

`write_model` makes a causal model of several architectures; `fields` and `drop` change its header into a broken or hostile
one. All have a byte-level BPE vocabulary (every byte, some English merges, ChatML and FIM specials) and a ChatML template.
"""

from __future__ import annotations

import functools
import itertools
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import gguf
import numpy as np

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIALS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|fim_prefix|>",
    "<|fim_suffix|>",
    "<|fim_middle|>",
)
N_EMBD, N_HEAD, N_FF, N_CTX = 64, 2, 128, 2048
N_SWA = 48
_TEXT = """the quick brown fox jumps over the lazy dog and then the dog sleeps in the sun while the fox
goes home to tell the story of the day to all the other animals in the forest who listen with great
interest and ask for another story about the weather in the mountains and the rivers of the land
"""


@functools.cache
def vocabulary() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return (tokens, merges) of a byte-level BPE: 256 bytes, about 120 merges, the specials."""
    byte_chars = _byte_chars()
    words = Counter(
        tuple(byte_chars[b] for b in (" " + w).encode()) for w in _TEXT.replace("\n", " ").split()
    )
    tokens, merges = [byte_chars[b] for b in range(256)], []
    for _ in range(120):
        pairs: Counter[tuple[str, str]] = Counter()
        for word, n in words.items():
            for pair in itertools.pairwise(word):
                pairs[pair] += n
        if not pairs:
            break
        left, right = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(f"{left} {right}")
        tokens.append(left + right)
        words = Counter({_merge(word, left, right): n for word, n in words.items()})
    return (*tokens, *SPECIALS), tuple(merges)


def token_id(text: str) -> int:
    """Return the id of a special token."""
    return vocabulary()[0].index(text)


def write_model(
    path: Path,
    *,
    arch: str = "llama",
    n_layer: int = 2,
    n_expert: int = 0,
    n_expert_used: int = 2,
    n_ctx: int = N_CTX,
    n_unused: int = 0,
    n_cls: int = 0,
    q8_0: bool = False,
    seed: int = 7,
    specials: tuple[str, ...] = (),
    extra: dict[str, np.ndarray] | None = None,
    fields: dict[str, tuple[Any, gguf.GGUFValueType]] | None = None,
    drop: tuple[str, ...] = (),
) -> Path:
    """Write a model of arch llama, qwen2vl (M-RoPE), gemma3 (every other layer sees N_SWA tokens), mamba (recurrent) or bert (encoder).

    `n_unused` tokens that are never meant are added to the vocabulary. `n_cls` makes the encoder a reranker. With `q8_0` matrices are quantised. `specials` are further control tokens, `extra` further tensors. `fields` sets or replaces metadata, "{arch}" in a key is the architecture's name; `drop` leaves out metadata or tensors.
    """
    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, arch)
    writer.add_name(f"tiny-{arch}")
    writer.add_context_length(n_ctx)
    writer.add_embedding_length(N_EMBD)
    writer.add_block_count(n_layer)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    if arch != "mamba":
        writer.add_feed_forward_length(N_FF)
        writer.add_head_count(N_HEAD)
        writer.add_head_count_kv(N_HEAD)
    if n_expert:
        writer.add_expert_count(n_expert)
        writer.add_expert_used_count(n_expert_used)
    kinds = {
        "llama": _llama,
        "qwen2vl": _qwen2vl,
        "gemma3": _gemma3,
        "mamba": _mamba,
        "bert": _bert,
    }
    tensors = kinds[arch](writer, n_layer, n_expert)
    tensors["token_embd.weight"] = (
        len(vocabulary()[0]) + len(specials) + n_unused,
        N_EMBD,
    )
    if n_cls:
        tensors |= _classifier(writer, n_cls)
    _add_vocabulary(writer, arch, n_unused, specials)

    metadata = writer.kv_data[0]
    for key, (value, kind) in (fields or {}).items():
        sub = None
        if kind == gguf.GGUFValueType.ARRAY:
            words = bool(value) and isinstance(value[0], str)
            sub = gguf.GGUFValueType.STRING if words else gguf.GGUFValueType.UINT32
        metadata[key.replace("{arch}", arch)] = gguf.GGUFValue(value, kind, sub)
    for name in drop:
        metadata.pop(name.replace("{arch}", arch), None)
    for name, shape in tensors.items():
        if name not in drop:
            _add_weights(writer, name, _weights(rng, name, shape), q8_0=q8_0)
    for name, values in (extra or {}).items():
        writer.add_tensor(name, values)
    _close(writer)
    return path


def write_lora(
    path: Path,
    *,
    n_layer: int = 2,
    rank: int = 4,
    scale: float = 1.0,
    arch: str = "llama",
    suffix: str = "",
    seed: int = 11,
    invocation: tuple[int, ...] = (),
) -> Path:
    """Write a LoRA adapter for the llama model's query projections; `suffix` makes its tensors' names wrong.

    Tokens of `invocation` make it an aLoRA.
    """
    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, arch)
    writer.add_string("general.type", "adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", rank * scale)
    if invocation:
        key = "adapter.alora.invocation_tokens"
        writer.add_key_value(key, invocation, gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.UINT32)
    for i in range(n_layer):
        name = f"blk.{i}.attn_q.weight"
        writer.add_tensor(f"{name}.lora_a{suffix}", rng.standard_normal((rank, N_EMBD), np.float32))
        writer.add_tensor(f"{name}.lora_b{suffix}", rng.standard_normal((N_EMBD, rank), np.float32))
    _close(writer)
    return path


def write_splits(directory: Path, n_splits: int = 2) -> list[Path]:
    """Write the llama model as shards that name each other; returns their paths in order."""
    prefix = directory / "tiny-split"
    rng = np.random.default_rng(7)
    writer = gguf.GGUFWriter(prefix, "llama", split_max_tensors=12)
    writer.add_context_length(N_CTX)
    writer.add_embedding_length(N_EMBD)
    writer.add_block_count(2)
    writer.add_feed_forward_length(N_FF)
    writer.add_head_count(N_HEAD)
    tensors = _llama(writer, 2, 0)
    _add_vocabulary(writer, "llama")
    for name, shape in tensors.items():
        writer.add_tensor(name, _weights(rng, name, shape))
    _close(writer, prefix)
    paths = sorted(directory.glob("tiny-split-*.gguf"))
    assert len(paths) == n_splits, paths
    return paths


def patch(source: Path, target: Path, offset: int, data: bytes) -> Path:
    """Copy a file with some bytes replaced."""
    content = bytearray(source.read_bytes())
    content[offset : offset + len(data)] = data
    target.write_bytes(content)
    return target


def patch_counts(
    source: Path, target: Path, *, n_tensors: int | None = None, n_kv: int | None = None
) -> Path:
    """Copy a GGUF with other counts in its header."""
    content = bytearray(source.read_bytes())
    if n_tensors is not None:
        struct.pack_into("<Q", content, 8, n_tensors)
    if n_kv is not None:
        struct.pack_into("<Q", content, 16, n_kv)
    target.write_bytes(content)
    return target


def truncate(source: Path, target: Path, keep: float) -> Path:
    """Copy the first part of a file."""
    content = source.read_bytes()
    target.write_bytes(content[: int(len(content) * keep)])
    return target


def _byte_chars() -> list[str]:
    """Return GPT-2's printable stand-in for each byte."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    table, extra = {b: chr(b) for b in printable}, 0
    for b in range(256):
        if b not in table:
            table[b] = chr(256 + extra)
            extra += 1
    return [table[b] for b in range(256)]


def _merge(word: tuple[str, ...], left: str, right: str) -> tuple[str, ...]:
    merged: list[str] = []
    for symbol in word:
        if merged and merged[-1] == left and symbol == right:
            merged[-1] = left + right
        else:
            merged.append(symbol)
    return tuple(merged)


def _weights(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name.endswith(("norm.weight", "ssm_d")):
        return np.ones(shape, np.float32)
    if name.endswith("ssm_a"):
        return -np.ones(shape, np.float32)
    values = rng.standard_normal(shape, dtype=np.float32) * np.float32(shape[-1] ** -0.5)
    small = (
        len(shape) == 1
        or "gate_inp" in name
        or "conv1d" in name
        or "types" in name
        or "position" in name
    )
    return values if small else values.astype(np.float16)


def _add_weights(writer: gguf.GGUFWriter, name: str, values: np.ndarray, *, q8_0: bool) -> None:
    if not q8_0 or values.dtype != np.float16:
        writer.add_tensor(name, values)
        return
    kind = gguf.GGMLQuantizationType.Q8_0
    writer.add_tensor(name, gguf.quantize(values.astype(np.float32), kind), raw_dtype=kind)


def _llama(writer: gguf.GGUFWriter, n_layer: int, n_expert: int) -> dict[str, tuple[int, ...]]:
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(N_EMBD // N_HEAD)
    n_vocab = len(vocabulary()[0])
    tensors: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (n_vocab, N_EMBD),
        "output_norm.weight": (N_EMBD,),
    }
    for i in range(n_layer):
        b = f"blk.{i}."
        tensors |= {b + "attn_norm.weight": (N_EMBD,), b + "ffn_norm.weight": (N_EMBD,)}
        tensors |= {f"{b}attn_{x}.weight": (N_EMBD, N_EMBD) for x in ("q", "k", "v", "output")}
        if n_expert:
            tensors[b + "ffn_gate_inp.weight"] = (n_expert, N_EMBD)
            tensors |= {f"{b}ffn_{x}_exps.weight": (n_expert, N_FF, N_EMBD) for x in ("gate", "up")}
            tensors[b + "ffn_down_exps.weight"] = (n_expert, N_EMBD, N_FF)
        else:
            tensors |= {f"{b}ffn_{x}.weight": (N_FF, N_EMBD) for x in ("gate", "up")}
            tensors[b + "ffn_down.weight"] = (N_EMBD, N_FF)
    return tensors


def _qwen2vl(writer: gguf.GGUFWriter, n_layer: int, n_expert: int) -> dict[str, tuple[int, ...]]:
    tensors = _llama(writer, n_layer, n_expert)
    writer.add_rope_dimension_sections([4, 6, 6, 0])
    for i in range(n_layer):
        tensors |= {f"blk.{i}.attn_{x}.bias": (N_EMBD,) for x in ("q", "k", "v")}
    return tensors


def _gemma3(writer: gguf.GGUFWriter, n_layer: int, n_expert: int) -> dict[str, tuple[int, ...]]:
    tensors = _llama(writer, n_layer, n_expert)
    writer.add_sliding_window(N_SWA)
    writer.add_sliding_window_pattern(2)
    for i in range(n_layer):
        b = f"blk.{i}."
        tensors |= {f"{b}attn_{x}_norm.weight": (N_EMBD // N_HEAD,) for x in ("q", "k")}
        tensors |= {f"{b}post_{x}_norm.weight": (N_EMBD,) for x in ("attention", "ffw")}
    return tensors


def _mamba(writer: gguf.GGUFWriter, n_layer: int, _n_expert: int) -> dict[str, tuple[int, ...]]:
    d_conv, d_inner, d_state, dt_rank = 4, 2 * N_EMBD, 16, 4
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_ssm_conv_kernel(d_conv)
    writer.add_ssm_inner_size(d_inner)
    writer.add_ssm_state_size(d_state)
    writer.add_ssm_time_step_rank(dt_rank)
    n_vocab = len(vocabulary()[0])
    tensors: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (n_vocab, N_EMBD),
        "output_norm.weight": (N_EMBD,),
    }
    for i in range(n_layer):
        b = f"blk.{i}."
        tensors |= {
            b + "attn_norm.weight": (N_EMBD,),
            b + "ssm_in.weight": (2 * d_inner, N_EMBD),
            b + "ssm_conv1d.weight": (d_inner, d_conv),
            b + "ssm_conv1d.bias": (d_inner,),
            b + "ssm_x.weight": (dt_rank + 2 * d_state, d_inner),
            b + "ssm_dt.weight": (d_inner, dt_rank),
            b + "ssm_dt.bias": (d_inner,),
            b + "ssm_a": (d_inner, d_state),
            b + "ssm_d": (d_inner,),
            b + "ssm_out.weight": (N_EMBD, d_inner),
        }
    return tensors


def _bert(writer: gguf.GGUFWriter, n_layer: int, _n_expert: int) -> dict[str, tuple[int, ...]]:
    writer.add_layer_norm_eps(1e-5)
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    n_vocab = len(vocabulary()[0])
    tensors: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (n_vocab, N_EMBD),
        "token_types.weight": (1, N_EMBD),
        "position_embd.weight": (N_CTX, N_EMBD),
        "token_embd_norm.weight": (N_EMBD,),
        "token_embd_norm.bias": (N_EMBD,),
    }
    for i in range(n_layer):
        b = f"blk.{i}."
        for x, (rows, columns) in {
            "attn_q": (N_EMBD, N_EMBD),
            "attn_k": (N_EMBD, N_EMBD),
            "attn_v": (N_EMBD, N_EMBD),
            "attn_output": (N_EMBD, N_EMBD),
            "ffn_up": (N_FF, N_EMBD),
            "ffn_down": (N_EMBD, N_FF),
        }.items():
            tensors |= {f"{b}{x}.weight": (rows, columns), f"{b}{x}.bias": (rows,)}
        for x in ("attn_output_norm", "layer_output_norm"):
            tensors |= {f"{b}{x}.weight": (N_EMBD,), f"{b}{x}.bias": (N_EMBD,)}
    return tensors


def _classifier(writer: gguf.GGUFWriter, n_cls: int) -> dict[str, tuple[int, ...]]:
    writer.add_pooling_type(gguf.PoolingType.RANK)
    return {
        "cls.weight": (N_EMBD, N_EMBD),
        "cls.bias": (N_EMBD,),
        "cls.output.weight": (n_cls, N_EMBD),
        "cls.output.bias": (n_cls,),
    }


def _add_vocabulary(
    writer: gguf.GGUFWriter, arch: str, n_unused: int = 0, specials: tuple[str, ...] = ()
) -> None:
    tokens, merges = vocabulary()
    n_normal = len(tokens) - len(SPECIALS)
    tokens += specials
    types = [gguf.TokenType.NORMAL] * n_normal
    types += [gguf.TokenType.CONTROL] * (len(tokens) - n_normal)
    tokens += tuple(f"<unused{i}>" for i in range(n_unused))
    types += [gguf.TokenType.UNUSED] * n_unused
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(list(tokens))
    writer.add_token_types(types)
    writer.add_token_merges(list(merges))
    writer.add_bos_token_id(token_id("<|endoftext|>"))
    writer.add_eos_token_id(token_id("<|im_end|>"))
    writer.add_pad_token_id(token_id("<|endoftext|>"))
    writer.add_add_bos_token(False)
    if arch == "bert":
        writer.add_token_type_count(1)
    writer.add_chat_template(CHATML)


def _close(writer: gguf.GGUFWriter, path: Path | None = None) -> None:
    writer.write_header_to_file(path)
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file(progress=False)
    writer.close()
