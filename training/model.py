"""The demo model in PyTorch: a small Llama. Knows nothing of text, training or files."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Shape:
    """The model's sizes, in the words of its GGUF header."""

    vocabulary: int = 2048
    embedding_length: int = 256
    block_count: int = 5
    feed_forward_length: int = 512
    head_count: int = 4
    head_count_kv: int = 2
    context_length: int = 2048
    rope_freq_base: float = 10_000.0
    rms_epsilon: float = 1e-5

    @property
    def head_length(self) -> int:
        """Return the length of one head's vectors."""
        return self.embedding_length // self.head_count


class Block(nn.Module):
    """One layer: attention, then a gated feed-forward."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        wide, key = shape.embedding_length, shape.head_count_kv * shape.head_length
        self.attn_norm = nn.RMSNorm(wide, shape.rms_epsilon)
        self.attn_q = nn.Linear(wide, wide, bias=False)
        self.attn_k = nn.Linear(wide, key, bias=False)
        self.attn_v = nn.Linear(wide, key, bias=False)
        self.attn_output = nn.Linear(wide, wide, bias=False)
        self.ffn_norm = nn.RMSNorm(wide, shape.rms_epsilon)
        self.ffn_gate = nn.Linear(wide, shape.feed_forward_length, bias=False)
        self.ffn_up = nn.Linear(wide, shape.feed_forward_length, bias=False)
        self.ffn_down = nn.Linear(shape.feed_forward_length, wide, bias=False)

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], -1, self.shape.head_length).transpose(1, 2)

    def _attend(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        shared = self.shape.head_count // self.shape.head_count_kv
        query = _rotate(self._heads(self.attn_q(x)), cos, sin)
        key = _rotate(self._heads(self.attn_k(x)), cos, sin).repeat_interleave(shared, 1)
        value = self._heads(self.attn_v(x)).repeat_interleave(shared, 1)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        output: Tensor = self.attn_output(mixed.transpose(1, 2).flatten(2))
        return output

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Return the residual stream after this layer."""
        x = x + self._attend(self.attn_norm(x), cos, sin)
        h = self.ffn_norm(x)
        output: Tensor = self.ffn_down(functional.silu(self.ffn_gate(h)) * self.ffn_up(h))
        return x + output


class Llama(nn.Module):
    """Tokens in, logits out; the output layer is the embedding."""

    cos: Tensor
    sin: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Embedding(shape.vocabulary, shape.embedding_length)
        self.blk = nn.ModuleList(Block(shape) for _ in range(shape.block_count))
        self.output_norm = nn.RMSNorm(shape.embedding_length, shape.rms_epsilon)
        half = shape.head_length // 2
        turns = shape.rope_freq_base ** (-torch.arange(half) / half)
        angles = torch.arange(shape.context_length)[:, None] * turns
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                ends = name.endswith(("attn_output.weight", "ffn_down.weight"))
                nn.init.normal_(weight, std=0.02 / (2 * shape.block_count) ** 0.5 if ends else 0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits of every position."""
        x = self.token_embd(tokens)
        cos, sin = self.cos[: tokens.shape[1]], self.sin[: tokens.shape[1]]
        for block in self.blk:
            x = block(x, cos, sin)
        return functional.linear(self.output_norm(x), self.token_embd.weight)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply rotary positions to the two halves of each head; the export reorders rows for llama.cpp."""
    a, b = x.chunk(2, -1)
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)
