"""The optimiser for the model's matrices: momentum, made orthogonal (Muon, after Keller Jordan)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from training import parallel

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor


def orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """Return a matrix near the closest orthogonal one, by Newton-Schulz iteration."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x: Tensor = matrix.bfloat16()
    if tall := x.shape[0] > x.shape[1]:
        x = x.T
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return (x.T if tall else x).to(matrix.dtype)


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum and decoupled weight decay.

    Each process works out its share of the updates; then all exchange them.
    """

    def __init__(self, weights: Iterable[Tensor], lr: float, weight_decay: float) -> None:
        super().__init__(weights, {"lr": lr, "momentum": 0.95, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # noqa: ARG002
        """Update every matrix once."""
        for group in self.param_groups:
            updates = []
            for number, weight in enumerate(group["params"]):
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                momentum = state["momentum"].lerp_(weight.grad, 1 - group["momentum"])
                if number % parallel.PROCESSES == parallel.rank():
                    updates.append(orthogonal(weight.grad.lerp(momentum, group["momentum"])))
                else:
                    updates.append(torch.zeros_like(weight))
            parallel.add_up(updates)
            for weight, update in zip(group["params"], updates, strict=True):
                scale = max(1.0, weight.shape[0] / weight.shape[1]) ** 0.5
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(update, alpha=-group["lr"] * scale)
