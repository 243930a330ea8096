"""Models to measure with: random weights at real shapes, the same ones everywhere. A dense model's weights do not change its speed.

The vocabulary is made of syllables, so that text has about as many tokens per word as a real one: every byte, 100 syllables, and
words of two and three of them up to the size asked for; all are real words, so what is generated is text.
"""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from reference import BUILD, Reference

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
SYLLABLES = tuple(c + v for c in "bcdfghjklmnpqrstvwxz" for v in "aeiou")
SPACE = "Ġ"  # a blank in GPT-2's printable alphabet
# words of two syllables that are one token in every vocabulary of ours
N_WORDS = 3000
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Qwen3's architecture at a size."""

    n_layer: int
    n_embd: int
    n_ff: int
    n_head: int
    n_head_kv: int
    head_dim: int
    n_vocab: int
    n_ctx: int = 32768


SHAPES = {
    # two thin layers under a real vocabulary: a step costs about what it costs on a GPU, so what surrounds the decode shows
    "tiny-v152k": Shape(
        n_layer=2, n_embd=128, n_ff=384, n_head=4, n_head_kv=2, head_dim=32, n_vocab=151936
    ),
    "tiny": Shape(
        n_layer=4, n_embd=256, n_ff=768, n_head=8, n_head_kv=4, head_dim=32, n_vocab=4096
    ),
    # a real small model: bound by the decode, as on a user's CPU
    "qwen3-0.6b": Shape(
        n_layer=28, n_embd=1024, n_ff=3072, n_head=16, n_head_kv=8, head_dim=128, n_vocab=151936
    ),
}


def model(name: str, directory: Path | None, reference: Reference) -> Path:
    """Return the file of a model such as tiny-Q8_0, from `directory` or made in build/bench/models."""
    for place in [directory] if directory else []:
        if (place / f"{name}.gguf").is_file():
            return place / f"{name}.gguf"
    path = BUILD / "models" / f"{name}.gguf"
    if path.is_file():
        return path
    shape, _, kind = name.rpartition("-")
    print(f"making {path}", file=sys.stderr, flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    full, new = path.with_suffix(".f16"), path.with_suffix(".new")
    try:
        write(full, shape)
        command = [reference.program("llama-quantize"), str(full), str(new), kind]
        subprocess.run(command, check=True, capture_output=True)
        new.rename(path)
    finally:
        full.unlink(missing_ok=True)
        new.unlink(missing_ok=True)
    return path


def write(path: Path, name: str) -> None:
    """Write a model of a shape in 16 bits."""
    shape = SHAPES[name]
    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_name(f"{name}-random")
    writer.add_context_length(shape.n_ctx)
    writer.add_embedding_length(shape.n_embd)
    writer.add_block_count(shape.n_layer)
    writer.add_feed_forward_length(shape.n_ff)
    writer.add_head_count(shape.n_head)
    writer.add_head_count_kv(shape.n_head_kv)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e6)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    add_vocabulary(writer, shape.n_vocab)
    rng = np.random.default_rng(7)
    for tensor, dims in _tensors(shape).items():
        if len(dims) == 1:
            writer.add_tensor(tensor, np.ones(dims, np.float32))
        else:
            values = rng.standard_normal(dims, np.float32) * np.float32(dims[-1] ** -0.5)
            if tensor == "token_embd.weight":
                # which is the output too: single bytes and specials are never the likeliest, for llama-server ends a
                # chat's stream with an error when what was generated is not UTF-8
                values[:256] *= 0.01
                values[-len(SPECIALS) :] *= 0.01
            writer.add_tensor(tensor, values.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file(progress=False)
    writer.close()


def words() -> list[str]:
    """Return the two-syllable words in the order in which vocabularies take them."""
    pairs = ["".join(pair) for pair in itertools.product(SYLLABLES, repeat=2)]
    random.Random(7).shuffle(pairs)
    return pairs


def text(n_words: int, seed: int) -> str:
    """Return that many words, one token each with a model of ours."""
    return " ".join(random.Random(seed).choices(words()[:N_WORDS], k=n_words))


def _tensors(shape: Shape) -> dict[str, tuple[int, ...]]:
    n_q, n_kv = shape.n_head * shape.head_dim, shape.n_head_kv * shape.head_dim
    tensors: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (shape.n_vocab, shape.n_embd),
        "output_norm.weight": (shape.n_embd,),
    }
    for i in range(shape.n_layer):
        block: dict[str, tuple[int, ...]] = {
            "attn_norm": (shape.n_embd,),
            "ffn_norm": (shape.n_embd,),
            "attn_q_norm": (shape.head_dim,),
            "attn_k_norm": (shape.head_dim,),
            "attn_q": (n_q, shape.n_embd),
            "attn_k": (n_kv, shape.n_embd),
            "attn_v": (n_kv, shape.n_embd),
            "attn_output": (shape.n_embd, n_q),
            "ffn_gate": (shape.n_ff, shape.n_embd),
            "ffn_up": (shape.n_ff, shape.n_embd),
            "ffn_down": (shape.n_embd, shape.n_ff),
        }
        tensors |= {f"blk.{i}.{part}.weight": dims for part, dims in block.items()}
    return tensors


def add_vocabulary(writer: gguf.GGUFWriter, n_vocab: int) -> None:
    """Give a model a vocabulary of syllables and words, and ChatML's template."""
    merges = _merges(n_vocab - 256 - len(SPECIALS))
    tokens = [*_byte_chars(), *(left + right for left, right in merges), *SPECIALS]
    n_plain = len(tokens) - len(SPECIALS)
    kinds = [gguf.TokenType.NORMAL] * n_plain + [gguf.TokenType.CONTROL] * len(SPECIALS)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([f"{left} {right}" for left, right in merges])
    writer.add_bos_token_id(tokens.index("<|endoftext|>"))
    writer.add_eos_token_id(tokens.index("<|im_end|>"))
    writer.add_pad_token_id(tokens.index("<|endoftext|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHATML)


def _merges(n: int) -> list[tuple[str, str]]:
    """Return the first n merges: syllables, a blank before them, words of two, words of three."""
    pairs = words()
    merges = itertools.chain(
        ((s[0], s[1]) for s in SYLLABLES),
        ((SPACE, s) for s in SYLLABLES),
        ((SPACE + pair[:2], pair[2:]) for pair in pairs),
        ((SPACE + pair, s) for pair in pairs for s in SYLLABLES),
    )
    return list(itertools.islice(merges, n))


def _byte_chars() -> list[str]:
    """Return GPT-2's printable stand-in for each byte."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = itertools.count(0x100)
    return [chr(b if b in printable else next(others)) for b in range(256)]
