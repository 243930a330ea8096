"""How many models may be loaded at once, and how much memory they may take together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from shimmy.engine.types.info import SystemInfo
from shimmy.engine.types.options import EngineOptions
from shimmy.machine.memory import main_memory
from shimmy.models.entry import ModelEntry
from shimmy.models.projector import size

MAX_MODELS = 4
"""As llama-server's --models-max."""

# Parameters for each byte of KV that a token takes: what an 8B model with grouped heads needs.
# Larger models need less for their size.
_PARAMS_PER_KV_BYTE = 65536
# `n_ctx` None means at most this many cells (shimmy.engine.types.options).
_DEFAULT_N_CTX = 8192


@dataclass(frozen=True, slots=True)
class Holding:
    """What one loaded model takes, in bytes: all of it, and what is of the file itself."""

    need: int
    size: int
    is_loading: bool


def host_memory() -> int:
    """Return the bytes of main memory that are free or can be made free, as a container may too."""
    return main_memory().free


def gpu_memory(system: SystemInfo) -> int:
    """Return the bytes that are free on the GPUs that ggml sees and can use."""
    return sum(d.memory_free for d in system.devices if d.kind == "gpu" and d.problem is None)


def estimate(entry: ModelEntry, options: EngineOptions) -> int:
    """Return about how many bytes a loaded model takes: its file, its projector's, and its context.

    A rule of thumb that asks nobody; a plan made of the model's own tensors knows better.
    """
    n_params = entry.n_params or entry.size
    n_ctx = options.n_ctx or _DEFAULT_N_CTX
    return entry.size + size(options.mmproj) + n_ctx * n_params // _PARAMS_PER_KV_BYTE


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Limits of all loaded models together; 0 is no limit.

    `memory` is in bytes, by `estimate`; None takes what the machine has free, so it counts main
    memory for models on a GPU too. A model that is alone is always tried, but over a `memory` that
    was given it is refused.
    """

    max_models: int = MAX_MODELS
    memory: int | None = None
    free: Callable[[], int] = host_memory

    def refusal(self, need: int) -> str | None:
        """Return why a model can never be loaded; None if it can."""
        if self.memory and need > self.memory:
            return (
                f"it takes about {_gb(need)}, and the models may take {_gb(self.memory)} together: "
                "raise --models-memory, or lower -c/--ctx-size"
            )
        return None

    def may_crowd(self, n_held: int) -> bool:
        """Tell whether a model may be tried beside `n_held` that stay, though memory looks short.

        The loader refuses what cannot be, and mapped weights need not be in memory; a limit that
        was given holds.
        """
        return self.memory is None and not (self.max_models and n_held >= self.max_models)

    def has_room(self, need: int, holdings: Iterable[Holding]) -> bool:
        """Tell whether a model that takes `need` bytes may be loaded beside `holdings`."""
        held = list(holdings)
        if not held:
            return True
        if self.max_models and len(held) >= self.max_models:
            return False
        if self.memory is not None:
            return not self.memory or need + sum(item.need for item in held) <= self.memory
        # a mapped file counts as free memory, but taking it would make its model read it again
        return need <= self.free() - sum(
            item.need if item.is_loading else item.size for item in held
        )


def _gb(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f} GB"
