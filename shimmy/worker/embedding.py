"""What a model is for, and the context in which it embeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shimmy.llama.context_params import ContextParams, Pooling

if TYPE_CHECKING:
    from shimmy.engine.types.info import ModelKind
    from shimmy.engine.types.options import EngineOptions
    from shimmy.llama.model import Model

N_CTX = 2048
"""Tokens of an input by default, where all of it has to be computed at once, and in the second
context that a generative model gets."""

N_CTX_SPLIT = 8192
"""The same for an embedding model that takes an input in bit by bit."""

N_BITE = 128
"""Tokens of a decode where the input may come bit by bit."""

N_SEQ = 64
"""Inputs of a decode."""

# llama_pooling_type, as the metadata counts it
_NONE, _LAST, _RANK = "0", "3", "4"


def kind_of(model: Model) -> ModelKind:
    """Return what a model is for, by its metadata."""
    pooling = _meta(model, "pooling_type")
    if pooling == _RANK:
        return "reranker"
    if pooling not in (None, _NONE):
        return "embedding"
    causal = _meta(model, "attention.causal") != "false"
    return "generative" if causal and (model.has_decoder or not model.has_encoder) else "embedding"


def splits(model: Model) -> bool:
    """Whether an input may be fed bit by bit: its last token alone makes the embedding.

    A generative model says nothing of pooling: its last token has seen all others.
    """
    if kind_of(model) == "generative":
        return True
    causal = _meta(model, "attention.causal") != "false" and model.has_decoder
    return _meta(model, "pooling_type") == _LAST and causal


def embedding_params(model: Model, options: EngineOptions, *, n_threads: int) -> ContextParams:
    """Return the parameters of a context that embeds with `model`."""
    kind = kind_of(model)
    if splits(model):
        default = N_CTX if kind == "generative" else N_CTX_SPLIT
    else:
        default = N_CTX
    wanted = default if kind == "generative" else options.n_ctx or default
    n_ctx = max(min(wanted, model.n_ctx_train or wanted), N_SEQ)
    n_batch = min(N_BITE, n_ctx) if splits(model) else n_ctx
    pooling = None
    if kind == "generative":
        pooling = Pooling.LAST
    elif _meta(model, "pooling_type") in (None, _NONE):
        pooling = Pooling.MEAN
    return ContextParams(
        n_ctx=n_ctx,
        n_batch=n_batch,
        n_ubatch=n_batch,
        n_seq_max=min(N_SEQ, n_batch),
        n_threads=n_threads,
        n_threads_batch=n_threads,
        pooling_type=pooling,
        embeddings=True,
        kv_unified=True,
    )


def _meta(model: Model, key: str) -> str | None:
    return model.meta(f"{model.meta('general.architecture')}.{key}")
