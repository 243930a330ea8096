"""What an engine runs on: a worker of our own, or another server. One interface for both."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from shimmy.engine.calls import AnswerT
    from shimmy.engine.generation import Generation
    from shimmy.engine.types.frame import Call
    from shimmy.engine.types.info import ModelInfo
    from shimmy.engine.types.request import GenerateRequest
    from shimmy.errors import ShimmyError


class EngineState(StrEnum):
    """Where an engine is in its life."""

    NEW = "new"
    LOADING = "loading"
    READY = "ready"
    RESTARTING = "restarting"
    FAILED = "failed"
    CLOSED = "closed"


class Link(Protocol):
    """One model, wherever it is. All methods on the event loop's thread."""

    @property
    def state(self) -> EngineState:
        """Where it is in its life."""

    @property
    def info(self) -> ModelInfo | None:
        """The model; None before it was ready."""

    @property
    def progress(self) -> float:
        """Load progress, 0 to 1."""

    @property
    def failure(self) -> ShimmyError | None:
        """Why it FAILED."""

    @property
    def n_active(self) -> int:
        """Requests in flight."""

    @property
    def restarts(self) -> int:
        """How often the worker was replaced."""

    @property
    def worker_pid(self) -> int | None:
        """The worker's process id, if it has one of ours and lives."""

    async def start(self) -> None:
        """Begin; returns before the model is there."""

    async def ready(self) -> ModelInfo:
        """Wait for the model, or raise why there will be none."""

    def submit(self, request_id: int, request: GenerateRequest) -> Generation:
        """Start a request that was checked; ids are the caller's, each used once."""

    async def ask(self, command: Call, kind: type[AnswerT]) -> AnswerT:
        """Ask what has one answer, which is a `kind`."""

    async def close(self) -> None:
        """End; requests in flight fail with `EngineClosedError`. Idempotent."""
