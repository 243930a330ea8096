"""What would help when a model does not fit: flags of ours, with what each of them frees."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from shimmy.errors import ConfigError, InvalidRequestError, LlamaError
from shimmy.llama.model import Model
from shimmy.worker import placed
from shimmy.worker.context_options import make_context

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shimmy.engine.types.options import EngineOptions
    from shimmy.llama.model_params import ModelParams

# ggml's words and those of its backends' drivers
_NO_ROOM = re.compile(
    r"(failed|unable|failure) to (re)?allocate|failed to initialize the context|out of memory"
    r"|OutOf\w*Memory|cannot allocate",
    re.IGNORECASE,
)
_GB = 1e9


@contextmanager
def with_advice(options: EngineOptions, params: ModelParams) -> Iterator[None]:
    """Add to an error that says that memory ran out which flags would help, and by how much."""
    try:
        yield
    except LlamaError as error:
        if not _NO_ROOM.search(error.message):
            raise
        advised = type(error)("\n  ".join((error.message, *advice(options, params))))
        advised.log = error.log
        raise advised from error


def advice(options: EngineOptions, params: ModelParams) -> list[str]:
    """Return the flags that would help, from llama.cpp's own sizes; it allocates nothing for them."""
    sized = msgspec.structs.replace(options, flash_attn="auto", context_shift=False)
    try:
        with Model.load(
            options.model_path, replace(params, no_alloc=True, load_mode=None)
        ) as model:
            tensors = model.tensors()
            n_layer = model.n_layer
            with make_context(model, sized) as context:
                n_ctx = context.n_ctx
                kv = sum(use.context for use in context.memory_breakdown())
    except (LlamaError, InvalidRequestError, ConfigError):
        return ["a smaller -c/--ctx-size, or a smaller model or quantisation, takes less memory"]
    weights = sum(tensor.bytes for tensor in tensors)
    experts = sum(tensor.bytes for tensor in tensors if placed.is_expert(tensor.name))
    return flags_that_help(
        options, params, weights=weights, experts=experts, n_layer=n_layer, n_ctx=n_ctx, kv=kv
    )


def flags_that_help(
    options: EngineOptions,
    params: ModelParams,
    *,
    weights: int,
    experts: int,
    n_layer: int,
    n_ctx: int,
    kv: int,
) -> list[str]:
    """Return the sizes, in bytes, and the flags that make them smaller."""
    sizes = f"the weights take {_size(weights)}, the KV cache {_size(kv)} for {n_ctx} tokens"
    return [
        f"{sizes}; what would help:",
        *_weight_flags(options, params, weights=weights, experts=experts, n_layer=n_layer),
        f"-c {max(n_ctx // 2, 1)}: half of the context frees {_size(kv / 2)}",
        *_cache_flags(options, kv),
    ]


def _weight_flags(
    options: EngineOptions, params: ModelParams, *, weights: int, experts: int, n_layer: int
) -> list[str]:
    """Flags that move weights from a GPU to host memory; without a GPU there is nowhere to move them."""
    if not params.devices:
        return ["a smaller quantisation: the weights are in host memory already"]
    flags = []
    if experts and not options.cpu_moe:
        flags += [
            f"--cpu-moe: the experts in host memory free {_size(experts)} of the GPU's",
            f"--n-cpu-moe N: the experts of the first N layers, {_size(experts / n_layer)} each",
        ]
    flags.append(
        f"-ngl N: each of the {n_layer} layers that stays off the GPU frees about "
        f"{_size(weights / (n_layer + 1))}"
    )
    if options.offload_kqv:
        flags.append("-nkvo: the KV cache in host memory")
    return flags


def _cache_flags(options: EngineOptions, kv: int) -> list[str]:
    if options.cache_type_k is not None or options.flash_attn == "off":
        return []
    # q8_0: 34 bytes for 32 values, which take 64 in f16
    return [f"-ctk q8_0 -ctv q8_0: the KV cache in 8 bits frees {_size(kv * (1 - 34 / 64))}"]


def _size(n_bytes: float) -> str:
    return f"{n_bytes / _GB:.2f} GB" if n_bytes >= _GB / 10 else f"{n_bytes / 1e6:.1f} MB"
