"""What a load would take, device by device: llama.cpp's own sizes, without allocating them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from shimmy.llama.context import Context
from shimmy.llama.model import Model
from shimmy.worker.context_options import default_n_ctx, make_context, swa_full
from shimmy.worker.cores import n_threads
from shimmy.worker.embedding import embedding_params, kind_of
from shimmy.worker.model_options import model_params
from shimmy.worker.placed import offloaded, placements

if TYPE_CHECKING:
    from shimmy.engine.types.info import DevicePlacement
    from shimmy.engine.types.options import EngineOptions
    from shimmy.worker.placement import Placement

# llama.cpp keeps books of about 100 bytes for each cell even where it allocates none: from here on a line is drawn
_MAX_MEASURED = 32_768
_MIN_MEASURED = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One device's bytes, and what one more cell of the context takes.

    `copied` weights, a part of all, take memory even where the file is mapped. `projector` is all
    that the model's projector takes here.
    """

    weights: int
    expert_weights: int
    kv: int
    compute: int
    kv_per_cell: float
    compute_per_cell: float
    copied: int = 0
    projector: int = 0

    @property
    def mappable(self) -> int:
        """Weights that can be the mapped file itself, where they lie in host memory."""
        return self.weights - self.copied

    @property
    def need(self) -> int:
        """All of it."""
        return self.weights + self.kv + self.compute + self.projector

    @property
    def per_cell(self) -> float:
        """What one more cell takes."""
        return self.kv_per_cell + self.compute_per_cell

    def moved(self, n_cells: int) -> Part:
        """Return the part with `n_cells` more cells."""
        return replace(
            self,
            kv=int(self.kv + n_cells * self.kv_per_cell),
            compute=int(self.compute + n_cells * self.compute_per_cell),
        )


NOTHING = Part(weights=0, expert_weights=0, kv=0, compute=0, kv_per_cell=0.0, compute_per_cell=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A model as it would be loaded: `devices` by name, the host as CPU.

    `swa_full` is None where no layer has a sliding window, of `n_swa` tokens.
    """

    n_layer: int
    n_expert: int
    n_expert_used: int
    n_ctx: int
    n_ctx_train: int
    n_gpu_layers: int
    devices: dict[str, Part]
    n_swa: int = 0
    swa_full: bool | None = None

    def at(self, n_ctx: int) -> Measure:
        """Return the same with another number of cells, along the line."""
        more = n_ctx - self.n_ctx
        devices = {name: part.moved(more) for name, part in self.devices.items()}
        return replace(self, n_ctx=n_ctx, devices=devices)


def measure(options: EngineOptions, chosen: Placement) -> Measure:
    """Return what loading with these options takes.

    Raises:
        ModelLoadError, LlamaError: llama.cpp refuses the file.
        ConfigError: an option cannot be; it names the flag.
    """
    params = replace(
        model_params(options, chosen), no_alloc=True, load_mode=None, check_tensors=None
    )
    with Model.load(options.model_path, params) as model:
        wanted = _wanted(model, options)
        # as at the size that is wanted, on the whole line
        full = swa_full(model, msgspec.structs.replace(options, n_ctx=wanted))
        options = msgspec.structs.replace(options, swa_full=full)
        n_ctx = min(wanted, _MAX_MEASURED)
        low, high = (_at(model, options, n) for n in (max(n_ctx // 2, _MIN_MEASURED), n_ctx))
        architecture = model.meta("general.architecture")
        return Measure(
            n_layer=model.n_layer,
            n_expert=int(model.meta(f"{architecture}.expert_count") or 0),
            n_expert_used=int(model.meta(f"{architecture}.expert_used_count") or 0),
            n_ctx=high.n_ctx,
            n_ctx_train=model.n_ctx_train,
            n_gpu_layers=offloaded(high.devices),
            devices=_parts(low, high),
            n_swa=model.n_swa,
            swa_full=full if model.n_swa else None,
        ).at(wanted)


@dataclass(frozen=True, slots=True)
class _Point:
    n_ctx: int
    devices: list[DevicePlacement]


def _wanted(model: Model, options: EngineOptions) -> int:
    if kind_of(model) == "generative":
        return options.n_ctx or default_n_ctx(model, options)
    embeds = embedding_params(model, options, n_threads=n_threads(options))
    return embeds.n_ctx or model.n_ctx_train


def _at(model: Model, options: EngineOptions, n_ctx: int) -> _Point:
    sized = msgspec.structs.replace(options, n_ctx=n_ctx, context_shift=False)
    if kind_of(model) == "generative":
        context = make_context(model, sized)
    else:
        context = Context(model, embedding_params(model, sized, n_threads=n_threads(sized)))
    with context:
        return _Point(context.n_ctx, placements(model, context))


def _parts(low: _Point, high: _Point) -> dict[str, Part]:
    before = {one.device: one for one in low.devices}
    n_cells = max(high.n_ctx - low.n_ctx, 1)
    parts = {}
    for one in high.devices:
        less = before.get(one.device, one)
        parts[one.device] = Part(
            weights=one.weights,
            expert_weights=one.expert_weights,
            kv=one.kv,
            compute=one.compute,
            kv_per_cell=max(0.0, (one.kv - less.kv) / n_cells),
            compute_per_cell=max(0.0, (one.compute - less.compute) / n_cells),
            copied=one.copied,
        )
    return parts
