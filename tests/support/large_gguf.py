"""A model as large as it is asked to be, which takes no room on the disk: its weights are a hole."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

from tests.support.tiny_gguf import token_id, vocabulary

N_EMBD, N_FF, N_HEAD = 1024, 4096, 16
_PER_LAYER = 2 * (4 * N_EMBD * N_EMBD + 3 * N_EMBD * N_FF)


def write_large(path: Path, size: int) -> Path:
    """Write a llama model of at least `size` bytes in F16; all its weights are 0."""
    n_layer = -(-size // _PER_LAYER)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(2048)
    writer.add_embedding_length(N_EMBD)
    writer.add_feed_forward_length(N_FF)
    writer.add_block_count(n_layer)
    writer.add_head_count(N_HEAD)
    writer.add_head_count_kv(N_HEAD)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    tokens, merges = vocabulary()
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(list(tokens))
    writer.add_token_merges(list(merges))
    writer.add_eos_token_id(token_id("<|im_end|>"))
    n_bytes = 0
    for name, shape in _tensors(n_layer, len(tokens)).items():
        kind = np.dtype(np.float32 if len(shape) == 1 else np.float16)
        n_tensor = int(np.prod(shape)) * kind.itemsize
        writer.add_tensor_info(name, shape, kind, n_tensor)
        n_bytes += -(-n_tensor // 32) * 32
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    with path.open("r+b") as file:
        start = -(-path.stat().st_size // 32) * 32
        file.truncate(start + n_bytes)
    return path


def _tensors(n_layer: int, n_vocab: int) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {"token_embd.weight": (n_vocab, N_EMBD)}
    for layer in range(n_layer):
        of_layer: dict[str, tuple[int, ...]] = {
            "attn_norm": (N_EMBD,),
            "attn_q": (N_EMBD, N_EMBD),
            "attn_k": (N_EMBD, N_EMBD),
            "attn_v": (N_EMBD, N_EMBD),
            "attn_output": (N_EMBD, N_EMBD),
            "ffn_norm": (N_EMBD,),
            "ffn_gate": (N_FF, N_EMBD),
            "ffn_up": (N_FF, N_EMBD),
            "ffn_down": (N_EMBD, N_FF),
        }
        found |= {f"blk.{layer}.{name}.weight": shape for name, shape in of_layer.items()}
    return found | {"output_norm.weight": (N_EMBD,)}
