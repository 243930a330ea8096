"""A loaded model, as what comes in for it needs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shimmy.errors import OverloadedError

if TYPE_CHECKING:
    from shimmy.engine.types.info import ModelInfo
    from shimmy.worker.adapters import Adapters
    from shimmy.worker.embedder import Embedder
    from shimmy.worker.inputs import InputReader
    from shimmy.worker.loop import Loop
    from shimmy.worker.prepare import Preparer
    from shimmy.worker.users import Users


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What a loaded model offers; `limit` is how many choices may run and wait in all.

    Whoever uses it on another thread than the engine's is one of its `users` meanwhile.
    """

    info: ModelInfo
    preparer: Preparer
    inputs: InputReader
    adapters: Adapters
    embedder: Embedder
    loop: Loop
    users: Users
    limit: int


def check_room(serving: Serving | None, n: int, n_waiting: int = 0) -> None:
    """Check that `n` choices more may wait beside those that run, wait, or (`n_waiting`) will soon.

    Raises:
        OverloadedError: the model has as many as it takes.
    """
    if serving is None:
        return
    n_open = serving.loop.n_open + n_waiting
    if n_open + n > serving.limit:
        raise OverloadedError(
            f"{n_open} requests run or wait, which is all that the slots and --max-queue "
            "allow: try again later"
        )
