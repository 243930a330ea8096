"""Which models of the catalogue fit a machine, the best first.

A model's quality is not measured here. Of two that fit the same memory the one with more parameters
comes first, and one that fits a GPU comes before those that have to be run by the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from shimmy.models.catalogue.entry import CatalogueModel, Use
from shimmy.models.catalogue.listing import Catalogue
from shimmy.models.entry import ModelEntry
from shimmy.models.naming import loose

# left free on each device for what computing takes, as llama.cpp's own fitting does
RESERVE = 1 << 30

Fit = Literal["gpu", "ram", "no"]


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes that models may take: `vram` of the GPUs together, `ram` of main memory."""

    vram: int
    ram: int


class Recommendation(msgspec.Struct, frozen=True, kw_only=True):
    """A model in one quantisation, and what it takes, in bytes, with `n_ctx` cells.

    `on_disk` are names of models here that are this one, in whatever quantisation; `projector` is
    what the largest of theirs takes, 0 where there is none: the catalogue knows of none.
    """

    model: CatalogueModel
    quant: str
    n_ctx: int
    weights: int
    kv: int
    fit: Fit
    projector: int = 0
    on_disk: list[str] = []

    @property
    def need(self) -> int:
        """Weights, KV cache and projector."""
        return self.weights + self.kv + self.projector

    @property
    def spec(self) -> str:
        """What `shimmy pull` takes."""
        return f"{self.model.name}:{self.quant}"


def recommend(
    known: Catalogue,
    machine: Machine,
    *,
    use: Use | None = None,
    n_ctx: int = 8192,
    entries: Sequence[ModelEntry] = (),
    everything: bool = False,
) -> list[Recommendation]:
    """Return what fits, the best first; with `everything` also what does not, last."""
    found = [
        _best(known, model, machine, n_ctx, entries)
        for model in known.models
        if use is None or use in model.uses
    ]
    order = {"gpu": 0, "ram": 1, "no": 2}
    found.sort(key=lambda one: (order[one.fit], -one.model.n_params, one.model.name))
    return [one for one in found if everything or one.fit != "no"]


def is_better(one: Recommendation, entry: ModelEntry, machine: Machine) -> bool:
    """Whether a model comes before one that is here, by the order of `recommend`.

    The built-in demo model comes last, whatever fits.
    """
    if entry.name in one.on_disk:
        return False
    order = {"gpu": 0, "ram": 1, "no": 2}
    fit = "no" if entry.source == "builtin" else _fit(entry.weights(), machine)
    return (order[one.fit], -one.model.n_params) < (order[fit], -entry.n_params)


def _best(
    known: Catalogue,
    model: CatalogueModel,
    machine: Machine,
    n_ctx: int,
    entries: Sequence[ModelEntry],
) -> Recommendation:
    """Take the largest quantisation that fits a GPU, or else the usual one by the CPU."""
    cells = min(n_ctx, model.n_ctx_train)
    kv = model.kv_bytes(cells)
    here = [entry for entry in entries if is_same(model, entry)]
    projector = max((entry.weights() - entry.size for entry in here), default=0)
    beside = kv + projector
    sizes = {quant: known.weights(model, quant) for quant in model.quants}
    quant, fit = model.quant, _fit(sizes[model.quant] + beside, machine)
    if fit == "gpu":
        fast = [q for q in model.quants if _fit(sizes[q] + beside, machine) == "gpu"]
        quant = max(fast, key=lambda q: sizes[q])
    return Recommendation(
        model=model,
        quant=quant,
        n_ctx=cells,
        weights=sizes[quant],
        kv=kv,
        fit=fit,
        projector=projector,
        on_disk=[entry.name for entry in here],
    )


def is_same(model: CatalogueModel, entry: ModelEntry) -> bool:
    """Whether a model on disk is this one: by its repository, or by the name that its files have."""
    repo = model.repo.lower()
    path = entry.path.lower().replace("\\", "/")
    if f"/{repo}/" in path or f"/models--{repo.replace('/', '--')}/" in path:
        return True
    stem = loose(model.repo.rpartition("/")[2]).removesuffix("-gguf")
    name = loose(entry.name.partition("@")[0])
    return name == stem or any(name == f"{stem}-{loose(quant)}" for quant in model.quants)


def _fit(need: int, machine: Machine) -> Fit:
    if need + RESERVE <= machine.vram:
        return "gpu"
    return "ram" if need + RESERVE <= machine.ram else "no"
