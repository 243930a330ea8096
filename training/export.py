"""Writes the trained model as a GGUF file that llama.cpp reads: Q8_0 matrices, vocabulary, template."""

from __future__ import annotations

import argparse
from pathlib import Path

import gguf
import numpy as np
import torch
from numpy.typing import NDArray

from training import tokenizer
from training.corpus.document import TEMPLATE
from training.model import Shape

DESCRIPTION = (
    "The built-in demo model of shimmy: a few million parameters, trained on generated text. "
    "Only for trying shimmy out."
)
TEMPERATURE = 0.2


def _paired(weight: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Reorder a head's rows from halves to neighbouring pairs, which llama.cpp's `llama` rotates."""
    halves = weight.reshape(heads, 2, -1, weight.shape[1])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def _add_header(writer: gguf.GGUFWriter, shape: Shape, parameters: int) -> None:
    writer.add_name("shimmy demo")
    writer.add_description(DESCRIPTION)
    writer.add_license("MIT")
    writer.add_size_label(f"{parameters / 1e6:.1f}M")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_sampling_temp(TEMPERATURE)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_context_length(shape.context_length)
    writer.add_embedding_length(shape.embedding_length)
    writer.add_block_count(shape.block_count)
    writer.add_feed_forward_length(shape.feed_forward_length)
    writer.add_head_count(shape.head_count)
    writer.add_head_count_kv(shape.head_count_kv)
    writer.add_rope_dimension_count(shape.head_length)
    writer.add_rope_freq_base(shape.rope_freq_base)
    writer.add_layer_norm_rms_eps(shape.rms_epsilon)


def _add_vocabulary(writer: gguf.GGUFWriter, path: Path) -> None:
    tokens, merges = tokenizer.tokens_and_merges(tokenizer.load(path))
    types = {
        **dict.fromkeys(tokenizer.CONTROL, gguf.TokenType.CONTROL),
        **dict.fromkeys(tokenizer.MARKS, gguf.TokenType.USER_DEFINED),
    }
    ids = {token: number for number, token in enumerate(tokens)}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([types.get(token, gguf.TokenType.NORMAL) for token in tokens])
    writer.add_token_merges(merges)
    writer.add_eos_token_id(ids["<|im_end|>"])
    writer.add_bos_token_id(ids["<|endoftext|>"])
    writer.add_pad_token_id(ids["<|endoftext|>"])
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE.read_text(encoding="utf-8"))


def export(weights_path: Path, out: Path) -> None:
    """Write the weights that `training.train` left, and the vocabulary beside them, as GGUF."""
    shape = Shape()
    weights = torch.load(weights_path, weights_only=True)
    writer = gguf.GGUFWriter(out, "llama")
    _add_header(writer, shape, sum(weight.numel() for weight in weights.values()))
    _add_vocabulary(writer, weights_path.parent / "tokenizer.json")
    for name, tensor in weights.items():
        weight = tensor.float().numpy()
        if "attn_q" in name:
            weight = _paired(weight, shape.head_count)
        elif "attn_k" in name:
            weight = _paired(weight, shape.head_count_kv)
        if weight.ndim == 1:
            writer.add_tensor(name, weight)
        else:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quants.quantize(weight, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    """Read the command line and export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path, help="the weights that training.train wrote")
    parser.add_argument("out", type=Path, help="the GGUF file to write")
    options = parser.parse_args()
    export(options.weights, options.out)
    print(f"{options.out}: {options.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
