"""How one model is loaded and run. Names are llama.cpp's; None leaves the choice to the worker."""

from __future__ import annotations

import msgspec

LOG_LEVELS = ("error", "warning", "info", "debug")
GPU_BACKENDS = ("auto", "cpu", "cuda", "vulkan", "opencl", "metal", "hip")
CACHE_TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1")
MAX_PARALLEL = 256


class EngineOptions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One loaded model: the file, where it goes, and the shape of its context.

    `n_ctx` counts the KV cells that all slots share; None gives each slot the model's training
    context, at most 8192 in all. `n_gpu_layers` None offloads all layers where a GPU is used. `override_tensor` holds (regex, buffer type) pairs, applied
    before those of `cpu_moe` and `n_cpu_moe`. `max_queue` requests may wait for a slot; more are
    refused as overload. Sizes are in tokens.
    """

    model_path: str
    n_ctx: int | None = None
    n_batch: int = 2048
    n_ubatch: int = 512
    n_parallel: int | None = None
    n_threads: int | None = None
    gpu_backend: str = "auto"
    n_gpu_layers: int | None = None
    devices: list[str] = []
    split_mode: str | None = None
    main_gpu: int | None = None
    tensor_split: list[float] = []
    cpu_moe: bool = False
    n_cpu_moe: int | None = None
    override_tensor: list[tuple[str, str]] = []
    load_mode: str | None = None
    check_tensors: bool = False
    flash_attn: str = "auto"
    cache_type_k: str | None = None
    cache_type_v: str | None = None
    lora: list[tuple[str, float]] = []
    chat_template: str | None = None
    max_queue: int = 512
    log_level: str = "warning"
