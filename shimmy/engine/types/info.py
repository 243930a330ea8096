"""What a worker reports: the model it loaded, the devices it sees."""

from __future__ import annotations

from typing import Literal

import msgspec


class DeviceInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One ggml device. `kind` is cpu, gpu, igpu or accel; memory in bytes."""

    name: str
    description: str
    backend: str
    kind: str
    memory_free: int
    memory_total: int
    device_id: str | None = None
    caps: dict[str, bool] = {}


class BackendInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One backend module of this build; `problem` says why it did not load, None if it did."""

    name: str
    file: str | None = None
    loaded: bool = True
    problem: str | None = None
    features: dict[str, str] = {}


class SystemInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What ggml reports of this machine and this build."""

    llama_cpp: str
    backends: list[BackendInfo]
    devices: list[DeviceInfo]


ModelKind = Literal["generative", "embedding", "reranker"]
"""What a model is for. A generative one embeds too, by its last layer."""


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A loaded model and its context; sizes in bytes and tokens.

    `n_ctx` counts the cells that all rows share, `n_ctx_row` the most tokens of one. `n_embd` is
    the length of its embeddings.
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
    load_ms: float
    kind: ModelKind = "generative"
    n_ctx_row: int = 0
    n_embd: int = 0
    has_fim: bool = False
    metadata: dict[str, str] = {}
