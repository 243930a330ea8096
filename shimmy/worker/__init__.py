"""The process that owns a model: `python -m shimmy.worker`, or `create` for use in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from shimmy.engine.types.frame import Report
    from shimmy.worker.worker import Worker


def create(emit: Callable[[Report], None]) -> Worker:
    """Return a worker that reports through `emit`, which any of its threads may call."""
    from shimmy.worker.worker import Worker

    return Worker(emit)
