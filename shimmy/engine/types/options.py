"""How one model is loaded and run. Names are llama.cpp's; None leaves the choice to the worker."""

from __future__ import annotations

import msgspec

from shimmy import config

GPU_BACKENDS = config.GPU_BACKENDS
LOG_LEVELS = config.LOG_LEVELS
CACHE_TYPES = config.CACHE_TYPES
MAX_PARALLEL = 256


class EngineOptions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One loaded model: the file, where it goes, and the shape of its context.

    `n_ctx` counts the KV cells that all slots share; None gives each slot the model's training
    context, at most 8192 in all. `n_gpu_layers` None offloads all layers where a GPU is used.
    `override_tensor` holds (regex, buffer type) pairs, applied before those of `cpu_moe` and
    `n_cpu_moe`. `max_queue` requests may wait for a slot; more are refused as overload. Sizes are
    in tokens.

    With `swa_full` layers that see a sliding window only keep all of a sequence all the same; None:
    where that takes less than twice the cells. `ctx_checkpoints` are kept of each prompt where
    memory cannot be cut: of those windows, and of recurrent states.

    Without `kv_unified` each slot has cells of its own, `n_ctx` divided by `n_parallel`. `cache_ram`
    is in MiB; None: a quarter of the free memory, at most 8 GiB; 0: no host cache. `slot_save_path`
    is the directory of saved sessions; None: there are none.

    `load_mode` is a word of `--load-mode`; None maps the file where the devices can. `repack` lets
    llama.cpp copy weights into a layout that its CPU code likes better; None: yes, unless memory is
    too short for more than the mapped file.

    `log_format` is `text`, or `json` for a process that logs for nobody else.

    `gpu_fallback` takes the CPU where `gpu_backend` cannot be used, instead of failing.
    `retry_backends` tries backends again that failed their first use on this machine. `devices` are
    ggml's names, or `none`; `offload_kqv` keeps the KV cache with its layers, `op_offload` lets a
    GPU compute large batches of layers that lie in host memory.

    `mmproj` is the projector that lets the model see images, on a GPU that the model uses unless
    `mmproj_offload` is off. Where an image's size decides how many tokens it becomes, it becomes
    `image_min_tokens` to `image_max_tokens`; None: the projector's own bounds. One that is not
    `mmproj_required` is left out if it cannot be loaded. A model that was found brings its own, unless
    `use_mmproj` is off.
    """

    model_path: str
    n_ctx: int | None = None
    n_batch: int = 2048
    n_ubatch: int = 512
    n_parallel: int | None = None
    n_threads: int | None = None
    n_threads_batch: int | None = None
    gpu_backend: str = "auto"
    gpu_fallback: bool = False
    retry_backends: bool = False
    n_gpu_layers: int | None = None
    devices: list[str] = []
    split_mode: str | None = None
    main_gpu: int | None = None
    tensor_split: list[float] = []
    offload_kqv: bool = True
    op_offload: bool = True
    cpu_moe: bool = False
    n_cpu_moe: int | None = None
    override_tensor: list[tuple[str, str]] = []
    load_mode: str | None = None
    repack: bool | None = None
    check_tensors: bool = False
    flash_attn: str = "auto"
    cache_type_k: str | None = None
    cache_type_v: str | None = None
    kv_unified: bool = True
    swa_full: bool | None = None
    ctx_checkpoints: int = 32
    context_shift: bool = False
    rope_scaling: str | None = None
    rope_freq_base: float | None = None
    rope_freq_scale: float | None = None
    yarn_orig_ctx: int | None = None
    yarn_ext_factor: float | None = None
    yarn_attn_factor: float | None = None
    yarn_beta_fast: float | None = None
    yarn_beta_slow: float | None = None
    cache_ram: int | None = None
    slot_save_path: str | None = None
    lora: list[tuple[str, float]] = []
    use_mmproj: bool = True
    mmproj: str | None = None
    mmproj_required: bool = True
    mmproj_offload: bool = True
    image_min_tokens: int | None = None
    image_max_tokens: int | None = None
    chat_template: str | None = None
    max_queue: int = 512
    log_level: str = "warning"
    log_format: str = "text"
