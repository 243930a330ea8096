"""What a model would take on this machine, and how it would be loaded; nothing is allocated for it."""

from __future__ import annotations

import msgspec


class PlannedDevice(msgspec.Struct, frozen=True, kw_only=True):
    """One device's part, in bytes; `expert_weights` are a part of `weights`.

    `projector` is what the file that lets the model see images takes, about. `free` and `total` are
    None where the driver does not say.
    """

    device: str
    weights: int
    expert_weights: int
    kv: int
    compute: int
    projector: int = 0
    free: int | None = None
    total: int | None = None

    @property
    def need(self) -> int:
        """All of it."""
        return self.weights + self.kv + self.compute + self.projector


class LoadPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How a model would be loaded; sizes are llama.cpp's own, for these settings.

    `n_gpu_layers` counts the output as a layer. `n_ctx` are the cells of all slots together,
    `n_ctx_max` the most that would fit as the model lies, up to its training context for each slot.
    `swa_full` says whether layers with a sliding window of `n_swa` tokens keep all; None: there are none.
    `mmproj` is the projector; None: the model is loaded without one.
    `changes` say what differs from what would be loaded with more memory, `problem` why nothing fits
    and which flags would help.
    """

    n_layer: int
    n_expert: int
    n_gpu_layers: int
    n_cpu_moe: int | None
    n_ctx: int
    n_ctx_max: int
    n_ctx_train: int
    n_parallel: int
    cache_type_k: str
    cache_type_v: str
    n_swa: int = 0
    swa_full: bool | None = None
    mmproj: str | None = None
    devices: list[PlannedDevice]
    changes: list[str] = []
    problem: str | None = None
