"""The training's plan: three runs, each from the weights of the one before."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of a run with one row length and one mixture; `batch` counts one process's rows."""

    steps: int
    batch: int
    length: int
    long_share: float = 0.0
    drill_share: float = 0.0
    sums_share: float = 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """One run. Rates are for the layers' matrices (Muon) and for the rest (Adam)."""

    name: str
    start: str | None
    seed: int
    matrix_rate: float
    other_rate: float
    warmup: int
    decay_from: float
    horizon: int
    phases: tuple[Phase, ...]

    @property
    def steps(self) -> int:
        """Return the number of steps of all phases."""
        return sum(phase.steps for phase in self.phases)

    def rate(self, step: int) -> float:
        """Return the share of the full rate: warm up, hold, then fall to nothing at the horizon."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        return min(1.0, (self.horizon - step) / (self.horizon * (1 - self.decay_from)))


PLANS = {
    # everything, in short rows; stops when the rate is still worth something
    "first": Plan(
        name="first",
        start=None,
        seed=11435,
        matrix_rate=0.02,
        other_rate=3e-3,
        warmup=40,
        decay_from=0.35,
        horizon=1000,
        phases=(Phase(900, 6, 512),),
    ),
    # what has to be known by heart, sums and facts, with enough of the rest to keep it; then rows
    # over the whole context length
    "drill": Plan(
        name="drill",
        start="first",
        seed=11436,
        matrix_rate=0.01,
        other_rate=1.5e-3,
        warmup=20,
        decay_from=0.1,
        horizon=220,
        phases=(
            Phase(165, 6, 512, drill_share=0.75),
            Phase(55, 2, 2048, long_share=0.04, drill_share=0.4),
        ),
    ),
    # sums are learnt last and need to be seen most
    "sums": Plan(
        name="sums",
        start="drill",
        seed=11437,
        matrix_rate=0.008,
        other_rate=1e-3,
        warmup=10,
        decay_from=0.1,
        horizon=160,
        phases=(Phase(160, 6, 512, drill_share=0.25, sums_share=0.5),),
    ),
}
