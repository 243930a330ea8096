"""Control groups with a memory limit, where this machine lets us make them (as root, not in CI)."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_V1 = Path("/sys/fs/cgroup/memory")
_V2 = Path("/sys/fs/cgroup")


def _home() -> Path | None:
    """Return the folder in which groups with a memory limit can be made."""
    if (_V1 / "memory.limit_in_bytes").exists() and os.access(_V1, os.W_OK):
        return _V1
    control = _V2 / "cgroup.subtree_control"
    if control.exists() and os.access(_V2, os.W_OK) and "memory" in control.read_text().split():
        return _V2
    return None


GROUPS = _home()


@contextmanager
def group(memory: int) -> Iterator[Path]:
    """Yield the folder of a group that may use `memory` bytes; its processes must end in the block."""
    assert GROUPS is not None
    folder = GROUPS / f"shimmy-test-{os.getpid()}"
    folder.mkdir()
    try:
        name = "memory.limit_in_bytes" if GROUPS == _V1 else "memory.max"
        (folder / name).write_text(str(memory))
        yield folder
    finally:
        for _ in range(50):
            with contextlib.suppress(OSError):
                folder.rmdir()
                break
            time.sleep(0.1)
