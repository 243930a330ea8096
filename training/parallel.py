"""Two training processes with one thread each: they wait for each other once a step, not once an
operation, which on a busy machine is the difference between sharing the cores and losing them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import distributed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

PROCESSES = 2


def join(rank: int, meeting: Path) -> None:
    """Join the group of training processes; `meeting` is a file that does not exist yet."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{meeting.resolve()}", rank=rank, world_size=PROCESSES
    )


def add_up(tensors: Sequence[Tensor]) -> None:
    """Replace every tensor by its sum over all processes."""
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    distributed.all_reduce(flat)
    at = 0
    for tensor in tensors:
        tensor.copy_(flat[at : at + tensor.numel()].view_as(tensor))
        at += tensor.numel()


def rank() -> int:
    """Return this process's number."""
    return distributed.get_rank()
