"""What a worker reports: the model it loaded, the devices it sees."""

from __future__ import annotations

from typing import Literal

import msgspec


class DeviceInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One ggml device. `kind` is cpu, gpu, igpu or accel; memory in bytes.

    `problem` says why it is not used: it failed its first use.
    """

    name: str
    description: str
    backend: str
    kind: str
    memory_free: int
    memory_total: int
    device_id: str | None = None
    driver: str | None = None
    problem: str | None = None
    caps: dict[str, bool] = {}


class BackendInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One backend module of this build; `problem` says why it did not load, None if it did.

    `devices` are the names of its own. One that is loaded without any has in `note` what it said.
    `flash_attn` says why flash attention must not be used on them.
    """

    name: str
    file: str | None = None
    loaded: bool = True
    problem: str | None = None
    devices: list[str] = []
    note: str | None = None
    flash_attn: str | None = None
    features: dict[str, str] = {}


class BackendChoice(msgspec.Struct, frozen=True, kw_only=True):
    """What one value of --gpu-backend would use: devices, none being the CPU; or why it cannot."""

    backend: str
    devices: list[str] = []
    problem: str | None = None


class SystemInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What ggml reports of this machine and this build."""

    llama_cpp: str
    backends: list[BackendInfo]
    devices: list[DeviceInfo]
    choices: list[BackendChoice] = []


class DevicePlacement(msgspec.Struct, frozen=True, kw_only=True):
    """What of a loaded model lies on one device; sizes in bytes.

    `layers` are the numbers of those whose dense weights are there, `experts` of those whose
    experts are; `output` is the layer after the last. `expert_weights` are a part of `weights`,
    and so are `copied` ones: host memory in another layout than the file's (llama.cpp's repacking),
    which takes room even where the file is mapped.
    """

    device: str
    layers: list[int]
    experts: list[int]
    output: bool
    weights: int
    expert_weights: int
    kv: int
    compute: int
    copied: int = 0


ModelKind = Literal["generative", "embedding", "reranker"]
"""What a model is for. A generative one embeds too, by its last layer."""


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A loaded model and its context; sizes in bytes and tokens.

    `n_ctx` counts the cells that all rows share, `n_ctx_row` the most tokens of one. `n_embd` is
    the length of its embeddings. `chat_template` is the source in use, `llama_cpp` the build. One
    with `vision` takes images.
    """

    path: str
    name: str
    description: str
    n_params: int
    size: int
    n_vocab: int
    n_ctx_train: int
    n_ctx: int
    n_batch: int
    n_parallel: int
    n_threads: int
    n_gpu_layers: int
    devices: list[str]
    has_chat_template: bool
    chat_template: str = ""
    chat_template_caps: dict[str, bool] = {}
    bos_token: str = ""
    eos_token: str = ""
    llama_cpp: str = ""
    load_ms: float
    kind: ModelKind = "generative"
    n_ctx_row: int = 0
    n_embd: int = 0
    has_fim: bool = False
    vision: bool = False
    gpu_backend: str = "cpu"
    placement: list[DevicePlacement] = []
    notes: list[str] = []
    metadata: dict[str, str] = {}
