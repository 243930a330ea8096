"""Looks for the way to load a model that is closest to what was asked for and fits.

The context shrinks first, then experts stay in host memory, then whole layers, and then the
projector, which each image would wait for. What was given by a flag stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from shimmy.engine.types.options import MAX_PARALLEL
from shimmy.errors import LoadCancelledError
from shimmy.worker import projector
from shimmy.worker.measure import Measure, measure
from shimmy.worker.room import HOST, Room

if TYPE_CHECKING:
    from collections.abc import Callable

    from shimmy.engine.types.options import EngineOptions
    from shimmy.worker.placement import Placement

MIN_N_CTX = 4096
"""The smallest context that we choose by ourselves, as common_fit_params."""

_STEP = 256


@dataclass(frozen=True, slots=True)
class Choice:
    """Options, and what they take."""

    options: EngineOptions
    measured: Measure


class Search:
    """Looks for options that fit; every try asks llama.cpp."""

    def __init__(self, chosen: Placement, there: Room, cancelled: Callable[[], bool]) -> None:
        self._chosen = chosen
        self._room = there
        self._cancelled = cancelled
        self._projectors: dict[bool, int] = {}  # sizes: on a GPU, and on the host
        self._margin = True

    def best(self, options: EngineOptions) -> Choice:
        """Return the options closest to those asked for that fit; the last try if none does."""
        # who gave both numbers knows the machine: then all of it may be used
        self._margin = options.n_gpu_layers is None or options.n_ctx is None
        first = self._smaller(self._try(options))
        if not self._too_much(first):
            return first
        choice = first
        if self._too_much(first, gpus=True) and self._may_move(options):
            choice = self._moved(options, first)
        if self._too_much(choice, gpus=True) and self._has_projector_on_gpu(options):
            moved = self.best(msgspec.structs.replace(options, mmproj_offload=False))
            if not self._too_much(moved, gpus=True):
                return moved
        return self._smaller(choice)

    def _moved(self, options: EngineOptions, first: Choice) -> Choice:
        """Move experts to host memory, or all of them and layers too."""
        n_layer = first.measured.n_layer
        if first.measured.n_expert and not _places_experts(options):
            found = self._least(n_layer, lambda n: msgspec.structs.replace(options, n_cpu_moe=n))
            if found is not None:
                return found
            options = msgspec.structs.replace(options, n_cpu_moe=n_layer)
        return self._layers_off(options, n_layer)

    def _has_projector_on_gpu(self, options: EngineOptions) -> bool:
        there = projector.device(options, self._chosen) != HOST
        return there and self._projector_size(options) > 0

    def _may_move(self, options: EngineOptions) -> bool:
        return (
            bool(self._chosen.devices) and options.n_gpu_layers is None and not options.tensor_split
        )

    def _layers_off(self, options: EngineOptions, n_layer: int) -> Choice:
        """Leave as few layers as possible off the GPUs; the output counts as one."""
        found = self._least(
            n_layer + 1,
            lambda n: msgspec.structs.replace(options, n_gpu_layers=n_layer + 1 - n),
        )
        return found or self._try(msgspec.structs.replace(options, n_gpu_layers=0))

    def _least(self, most: int, changed: Callable[[int], EngineOptions]) -> Choice | None:
        """Return the choice of the smallest number from 1 to `most` that fits the GPUs."""
        low, high, found = 1, most, None
        while low <= high:
            middle = (low + high) // 2
            tried = self._try(changed(middle))
            if self._too_much(tried, gpus=True):
                low = middle + 1
            else:
                found, high = tried, middle - 1
        return found

    def _smaller(self, choice: Choice) -> Choice:
        """Shrink the context until it fits, if nobody gave its size and if that is enough."""
        if choice.options.n_ctx is not None or not self._too_much(choice):
            return choice
        most = self.n_ctx_max(choice.measured, margin=self._margin)
        if most < min(MIN_N_CTX, choice.measured.n_ctx):
            return choice
        # a window that was to be kept alone still is, though it is a larger part now
        full = choice.measured.swa_full
        return self._try(msgspec.structs.replace(choice.options, n_ctx=most, swa_full=full))

    def n_ctx_max(self, measured: Measure, *, margin: bool) -> int:
        """Return the most cells that fit as the model lies, 0 if not even one does."""
        empty = measured.at(0)
        if self._room.lacking(empty, margin=margin):
            return 0
        most = measured.n_ctx_train * MAX_PARALLEL
        for name, part in empty.devices.items():
            if part.per_cell > 0 and name in self._room.free:
                left = self._room.left(name, part, margin=margin)
                most = min(most, int(left / part.per_cell))
        return most // _STEP * _STEP

    def _too_much(self, choice: Choice, *, gpus: bool = False) -> bool:
        """Whether something does not fit: anything, or on a GPU."""
        short = self._room.lacking(choice.measured, margin=self._margin)
        return any(name != HOST for name in short) if gpus else bool(short)

    def _try(self, options: EngineOptions) -> Choice:
        if self._cancelled():
            raise LoadCancelledError("the load was given up")
        measured = measure(options, self._chosen)
        n_bytes, where = self._projector_size(options), projector.device(options, self._chosen)
        return Choice(options, projector.with_projector(measured, options, n_bytes, where))

    def _projector_size(self, options: EngineOptions) -> int:
        known = self._projectors.get(options.mmproj_offload)
        if known is None:
            known = projector.size(options, self._chosen)
            self._projectors[options.mmproj_offload] = known
        return known


def _places_experts(options: EngineOptions) -> bool:
    """Whether somebody said where experts go."""
    return options.cpu_moe or options.n_cpu_moe is not None or bool(options.override_tensor)
