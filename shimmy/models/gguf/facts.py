"""What a GGUF file is: a few facts about it, small enough to be kept for thousands of files."""

from __future__ import annotations

import re
from collections import Counter
from typing import Literal

import msgspec

from shimmy.models.gguf.checks import objections
from shimmy.models.gguf.file import GgufFile
from shimmy.models.gguf.metadata import Metadata
from shimmy.models.gguf.projector import Sense, senses_of, width_of
from shimmy.models.gguf.tensors import Tensor
from shimmy.models.gguf.types import FILE_TYPES

Kind = Literal[
    "llm",
    "embedding",
    "reranker",
    "speech",
    "adapter",
    "mmproj",
    "shard",
    "vocabulary",
    "other",
]

MODELS: frozenset[Kind] = frozenset({"llm", "embedding", "reranker", "speech"})
"""The kinds that can be loaded by themselves."""

# Models that turn text into vectors and say nothing of pooling.
ENCODERS = frozenset(
    {
        "bert",
        "eurobert",
        "gemma-embedding",
        "jina-bert-v2",
        "jina-bert-v3",
        "llama-embed",
        "modern-bert",
        "neo-bert",
        "nomic-bert",
        "nomic-bert-moe",
        "t5encoder",
    }
)
# Their attention looks both ways, and yet they write text.
_DIFFUSION = frozenset({"dream", "llada", "llada-moe", "rnd1"})
# llama.cpp's LLAMA_POOLING_TYPE: mean, cls, last; and rank.
_POOLED = frozenset({1, 2, 3})
_RANK = 4

_DELTA = re.compile(r"blk\.(\d+)\.(\w+)\.weight\.lora_a")
# these take the model's own width in
_FULL_WIDTH = frozenset({"attn_q", "attn_k", "attn_v", "attn_qkv", "ffn_gate", "ffn_up"})


class Facts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one file says of itself; None where it says nothing.

    Of a split model `n_params` and `quantisation` are this shard's, and `shard` counts from 0.
    For an adapter `n_embd` and `n_layer` are what its tensors ask of the model under it; for a
    projector `n_embd` is the model's width, and `senses` are what it turns into the model's tokens.
    `objection` is why it must not be loaded.
    """

    kind: Kind
    architecture: str | None = None
    name: str | None = None
    size_label: str | None = None
    n_params: int = 0
    quantisation: str | None = None
    n_ctx_train: int | None = None
    n_embd: int | None = None
    n_layer: int | None = None
    n_expert: int | None = None
    n_expert_used: int | None = None
    tokenizer: str | None = None
    n_vocab: int | None = None
    has_template: bool = False
    templates: tuple[str, ...] = ()
    shard: int = 0
    n_shards: int = 1
    senses: tuple[Sense, ...] = ()
    objection: str | None = None


def facts_of(gguf: GgufFile) -> Facts:
    """Return the facts that a header holds."""
    metadata = gguf.metadata
    kind = kind_of(gguf)
    arch = metadata.text("general.architecture")
    n_embd, n_layer = (
        metadata.count(f"{arch}.embedding_length"),
        metadata.count(f"{arch}.block_count"),
    )
    if kind == "adapter":
        n_embd, n_layer = _asked_by(gguf.tensors)
    elif kind == "mmproj":
        n_embd = width_of(gguf)
    pieces = [metadata.text("tokenizer.ggml.model"), metadata.text("tokenizer.ggml.pre")]
    return Facts(
        kind=kind,
        architecture=arch,
        name=metadata.text("general.name"),
        size_label=metadata.text("general.size_label"),
        n_params=sum(tensor.n_elements for tensor in gguf.tensors),
        quantisation=quantisation_of(gguf),
        n_ctx_train=metadata.count(f"{arch}.context_length"),
        n_embd=n_embd,
        n_layer=n_layer,
        n_expert=metadata.count(f"{arch}.expert_count") or None,
        n_expert_used=metadata.count(f"{arch}.expert_used_count") or None,
        tokenizer=" ".join(piece for piece in pieces if piece) or None,
        n_vocab=metadata.n_items("tokenizer.ggml.tokens"),
        has_template="tokenizer.chat_template" in metadata.fields,
        templates=_template_names(metadata),
        shard=metadata.count("split.no") or 0,
        n_shards=max(1, metadata.count("split.count") or 1),
        senses=senses_of(metadata) if kind == "mmproj" else (),
        objection="; ".join(objections(gguf)) or None,
    )


def kind_of(gguf: GgufFile) -> Kind:
    """Return what a file is for, by its metadata alone."""
    metadata = gguf.metadata
    arch = metadata.text("general.architecture")
    said = metadata.text("general.type")
    if said == "adapter" or "adapter.type" in metadata.fields:
        return "adapter" if metadata.text("adapter.type") in {None, "lora"} else "other"
    if said == "mmproj" or arch == "clip":
        return "mmproj"
    if said not in {None, "model"}:
        return "other"
    if metadata.count("split.no"):
        return "shard"
    if not gguf.tensors and (metadata.count("split.count") or 1) == 1:
        return "vocabulary"
    # every architecture of llama.cpp has layers: what has none (image models) is not for us
    if arch is None or f"{arch}.block_count" not in metadata.fields:
        return "other"
    return _use(metadata, arch)


def quantisation_of(gguf: GgufFile) -> str | None:
    """Return the file's type by llama.cpp's short name, or else the type that most bytes have."""
    stated = gguf.metadata.count("general.file_type")
    if stated is not None and stated in FILE_TYPES:
        return FILE_TYPES[stated]
    sizes: Counter[str] = Counter()
    for tensor in gguf.tensors:
        sizes[tensor.type] += tensor.size
    return max(sizes, key=lambda name: sizes[name]) if sizes else None


def fits(adapter: Facts, model: Facts) -> bool:
    """Whether a LoRA adapter was made for models of this architecture and shape."""
    if adapter.architecture is None or adapter.architecture != model.architecture:
        return False
    if adapter.n_embd is not None and adapter.n_embd != model.n_embd:
        return False
    return adapter.n_layer is None or adapter.n_layer <= (model.n_layer or 0)


def _use(metadata: Metadata, arch: str) -> Kind:
    pooling = metadata.count(f"{arch}.pooling_type")
    if pooling == _RANK:
        return "reranker"
    if arch == "wavtokenizer-dec":
        return "speech"
    both_ways = metadata.flag(f"{arch}.attention.causal") is False and arch not in _DIFFUSION
    if arch in ENCODERS or pooling in _POOLED or both_ways:
        return "embedding"
    return "llm"


def _asked_by(tensors: list[Tensor]) -> tuple[int | None, int | None]:
    """Return the width and the number of layers that an adapter's tensors need."""
    width, n_layer = None, None
    for tensor in tensors:
        if match := _DELTA.fullmatch(tensor.name):
            n_layer = max(n_layer or 0, int(match[1]) + 1)
            if match[2] in _FULL_WIDTH and tensor.shape:
                width = tensor.shape[0]
    return width, n_layer


def _template_names(metadata: Metadata) -> tuple[str, ...]:
    prefix = "tokenizer.chat_template."
    return tuple(key.removeprefix(prefix) for key in metadata.fields if key.startswith(prefix))
