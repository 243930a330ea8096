"""Checkpoints alone: which states are kept."""

from __future__ import annotations

import numpy as np
import pytest

from shimmy.worker.checkpoints import MAX_BYTES, Checkpoints
from shimmy.worker.host_cache import HostCache
from shimmy.worker.lora_set import NO_LORAS
from shimmy.worker.resident import prefix_key

KEY = prefix_key(range(101))


class States:
    def __init__(self, size: int) -> None:
        self.n_bytes = size
        self.n_saved = 0

    def size(self, _seq_id: int) -> int:
        return self.n_bytes

    def save(self, _seq_id: int) -> np.ndarray:
        self.n_saved += 1
        return np.zeros(8, np.uint8)


@pytest.mark.parametrize(
    ("size", "room", "kept"),
    [(1000, 2000, True), (3000, 2000, False), (MAX_BYTES + 1, 2 * MAX_BYTES, False)],
)
def test_what_is_too_large_to_keep_is_not_copied(size: int, room: int, kept: bool) -> None:
    states = States(size)
    checkpoints = Checkpoints(HostCache(room), states)  # type: ignore[arg-type]
    checkpoints.keep(3, KEY, NO_LORAS)
    assert states.n_saved == kept
    assert checkpoints.longest(KEY, NO_LORAS, 100) == (100 if kept else 0)
