"""What the HTTP side needs of the layers below, as protocols: the real pool and test doubles fit.

The real ones are `shimmy.models.pool.Pool`, `shimmy.models.registry.Registry` and
`shimmy.engine.Engine`; mypy holds them to this where a command hands them to `make_app`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from shimmy.engine.generation import Generation
from shimmy.engine.types.info import ModelInfo
from shimmy.engine.types.request import GenerateRequest
from shimmy.errors import ShimmyError


class ModelEntry(Protocol):
    """A model that can be asked for; `size` in bytes, `modified` in Unix seconds."""

    @property
    def name(self) -> str:
        """What a request's `model` says."""

    @property
    def size(self) -> int:
        """Bytes on disk."""

    @property
    def source(self) -> str:
        """One of builtin, registered, discovered."""

    @property
    def modified(self) -> int:
        """Unix seconds."""


class Registry(Protocol):
    """Names for models."""

    def entries(self) -> Sequence[ModelEntry]:
        """Return all models; must not block."""

    def resolve(self, name: str | None) -> ModelEntry:
        """Return the model of that name, or raise `ModelNotFoundError`."""


class Engine(Protocol):
    """One loaded, loading or failed model. `state` is a value of `EngineState`."""

    @property
    def state(self) -> str:
        """One of loading, ready, restarting, failed, closed."""

    @property
    def progress(self) -> float:
        """Of the load, 0 to 1."""

    @property
    def failure(self) -> ShimmyError | None:
        """Why it failed."""

    @property
    def info(self) -> ModelInfo | None:
        """Set once it is ready."""

    @property
    def n_active(self) -> int:
        """Requests in flight."""

    @property
    def restarts(self) -> int:
        """How often its worker was started again."""

    def generate(self, request: GenerateRequest) -> Generation:
        """Begin a generation, or raise `InvalidRequestError`."""


class Lease(Protocol):
    """A model that stays loaded while it is held."""

    @property
    def entry(self) -> ModelEntry:
        """The model that was meant."""

    @property
    def engine(self) -> Engine:
        """What runs it."""


class Pool(Protocol):
    """Engines by model name."""

    @property
    def registry(self) -> Registry:
        """The names."""

    @property
    def current(self) -> Engine | None:
        """The engine of the loaded (or loading, or failed) model."""

    async def start(self) -> None:
        """Begin to load the default model and return at once."""

    def use(self, name: str | None) -> AbstractAsyncContextManager[Lease]:
        """Hold the model called `name` (None: the default), loading it first if need be."""

    async def close(self) -> None:
        """Give up all requests and unload. Idempotent."""
