"""How a context is made, in llama.cpp's words; None leaves a choice to llama.cpp or the model."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import TYPE_CHECKING

from shimmy.errors import InvalidRequestError
from shimmy.llama import _checks
from shimmy.llama._ffi import CData, ffi, lib, text

if TYPE_CHECKING:
    from shimmy.llama.context import Context
    from shimmy.llama.model import Model


class ContextType(StrEnum):
    """What the context decodes: the model, or its MTP layers."""

    DEFAULT = "default"
    MTP = "mtp"


class RopeScaling(StrEnum):
    """How positions are stretched."""

    NONE = "none"
    LINEAR = "linear"
    YARN = "yarn"
    LONGROPE = "longrope"


class Pooling(StrEnum):
    """How token embeddings become one for the sequence."""

    NONE = "none"
    MEAN = "mean"
    CLS = "cls"
    LAST = "last"
    RANK = "rank"


class Attention(StrEnum):
    """Whether tokens see the tokens after them."""

    CAUSAL = "causal"
    NON_CAUSAL = "non-causal"


class FlashAttn(StrEnum):
    """When flash attention is used."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextParams:
    """llama_context_params; None is llama.cpp's default (`n_ctx`: 512, where 0 is the model's own).

    `type_k` and `type_v` are ggml type names such as "f16" or "q8_0".
    """

    n_ctx: int | None = None
    n_batch: int | None = None
    n_ubatch: int | None = None
    n_seq_max: int | None = None
    n_rs_seq: int | None = None
    n_outputs_max: int | None = None
    n_outputs_max_per_seq: int | None = None
    n_threads: int | None = None
    n_threads_batch: int | None = None
    ctx_type: ContextType | None = None
    rope_scaling_type: RopeScaling | None = None
    pooling_type: Pooling | None = None
    attention_type: Attention | None = None
    flash_attn_type: FlashAttn | None = None
    rope_freq_base: float | None = None
    rope_freq_scale: float | None = None
    yarn_ext_factor: float | None = None
    yarn_attn_factor: float | None = None
    yarn_beta_fast: float | None = None
    yarn_beta_slow: float | None = None
    yarn_orig_ctx: int | None = None
    type_k: str | None = None
    type_v: str | None = None
    embeddings: bool | None = None
    offload_kqv: bool | None = None
    no_perf: bool | None = None
    op_offload: bool | None = None
    swa_full: bool | None = None
    kv_unified: bool | None = None
    ctx_other: Context | None = None


# what llama.cpp's own tools offer for the KV cache
_KV_TYPES = {
    text(lib.ggml_type_name(ggml_type)): ggml_type
    for ggml_type in (
        lib.GGML_TYPE_F32,
        lib.GGML_TYPE_F16,
        lib.GGML_TYPE_BF16,
        lib.GGML_TYPE_Q8_0,
        lib.GGML_TYPE_Q4_0,
        lib.GGML_TYPE_Q4_1,
        lib.GGML_TYPE_IQ4_NL,
        lib.GGML_TYPE_Q5_0,
        lib.GGML_TYPE_Q5_1,
    )
}
_WORDS: dict[str, dict[str, int]] = {
    "ctx_type": {
        ContextType.DEFAULT: lib.LLAMA_CONTEXT_TYPE_DEFAULT,
        ContextType.MTP: lib.LLAMA_CONTEXT_TYPE_MTP,
    },
    "rope_scaling_type": {
        RopeScaling.NONE: lib.LLAMA_ROPE_SCALING_TYPE_NONE,
        RopeScaling.LINEAR: lib.LLAMA_ROPE_SCALING_TYPE_LINEAR,
        RopeScaling.YARN: lib.LLAMA_ROPE_SCALING_TYPE_YARN,
        RopeScaling.LONGROPE: lib.LLAMA_ROPE_SCALING_TYPE_LONGROPE,
    },
    "pooling_type": {
        Pooling.NONE: lib.LLAMA_POOLING_TYPE_NONE,
        Pooling.MEAN: lib.LLAMA_POOLING_TYPE_MEAN,
        Pooling.CLS: lib.LLAMA_POOLING_TYPE_CLS,
        Pooling.LAST: lib.LLAMA_POOLING_TYPE_LAST,
        Pooling.RANK: lib.LLAMA_POOLING_TYPE_RANK,
    },
    "attention_type": {
        Attention.CAUSAL: lib.LLAMA_ATTENTION_TYPE_CAUSAL,
        Attention.NON_CAUSAL: lib.LLAMA_ATTENTION_TYPE_NON_CAUSAL,
    },
    "flash_attn_type": {
        FlashAttn.AUTO: lib.LLAMA_FLASH_ATTN_TYPE_AUTO,
        FlashAttn.ON: lib.LLAMA_FLASH_ATTN_TYPE_ENABLED,
        FlashAttn.OFF: lib.LLAMA_FLASH_ATTN_TYPE_DISABLED,
    },
    "type_k": _KV_TYPES,
    "type_v": _KV_TYPES,
}
_INTEGERS = {
    "n_ctx": (0, _checks.INT32_MAX),
    "n_batch": (1, _checks.INT32_MAX),
    "n_ubatch": (1, _checks.INT32_MAX),
    "n_seq_max": (1, _checks.MAX_SEQ),
    "n_rs_seq": (0, _checks.INT32_MAX),
    "n_outputs_max": (0, _checks.INT32_MAX),
    "n_outputs_max_per_seq": (0, _checks.INT32_MAX),
    "n_threads": (1, 512),  # GGML_MAX_N_THREADS
    "n_threads_batch": (1, 512),
    "yarn_orig_ctx": (0, _checks.INT32_MAX),
}
_REALS = {
    "rope_freq_base",
    "rope_freq_scale",
    "yarn_ext_factor",
    "yarn_attn_factor",
    "yarn_beta_fast",
    "yarn_beta_slow",
}


def native_context_params(params: ContextParams, model: Model) -> CData:
    """Return a checked llama_context_params; raises `InvalidRequestError` with the field's name."""
    struct = ffi.new("struct llama_context_params *")
    struct[0] = lib.llama_context_default_params()
    for field in fields(params):
        name, value = field.name, getattr(params, field.name)
        if value is not None:
            setattr(struct, name, _native(name, value))
    _check_together(struct, model)
    return struct


def _native(name: str, value: object) -> object:
    if name in _WORDS:
        return _checks.word(name, value, _WORDS[name])
    if name in _INTEGERS:
        return _checks.integer(name, value, *_INTEGERS[name])
    if name in _REALS:
        return _checks.real(name, value)
    if name == "ctx_other":
        return value.ptr  # type: ignore[attr-defined]
    return _checks.boolean(name, value)


def _check_together(struct: CData, model: Model) -> None:
    """Refuse what llama.cpp would abort on, or quietly turn into something else."""
    n_seq_max = int(struct.n_seq_max)
    # llama.cpp cuts n_batch to n_ctx before it compares
    n_ctx = int(struct.n_ctx) or model.n_ctx_train
    causal = struct.attention_type != lib.LLAMA_ATTENTION_TYPE_NON_CAUSAL
    n_batch = min(int(struct.n_batch), n_ctx) if causal else int(struct.n_batch)
    if n_batch < n_seq_max:
        raise InvalidRequestError(
            f"n_batch ({n_batch}, at most n_ctx) must be at least n_seq_max ({n_seq_max})",
            param="n_batch",
        )
    if 0 < struct.n_outputs_max < n_seq_max:
        raise InvalidRequestError(
            f"n_outputs_max ({struct.n_outputs_max}) must be at least n_seq_max ({n_seq_max})",
            param="n_outputs_max",
        )
    if (
        lib.ggml_is_quantized(struct.type_v)
        and struct.flash_attn_type == lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
    ):
        raise InvalidRequestError(
            "a quantized type_v needs flash attention: leave flash_attn_type at auto",
            param="type_v",
        )
