"""What the HTTP side needs of the layers below, as protocols: the real pool and test doubles fit.

The real ones are `shimmy.models.pool.Pool`, `shimmy.models.registry.Registry` and
`shimmy.engine.Engine`; mypy holds them to this where a command hands them to `make_app`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from shimmy.engine.generation import Generation
from shimmy.engine.types.frame import Embedded, Rendering, Reranked
from shimmy.engine.types.info import ModelInfo
from shimmy.engine.types.lora import LoraInfo
from shimmy.engine.types.prompt import ChatPrompt, TextPrompt, TokenPrompt
from shimmy.engine.types.request import GenerateRequest
from shimmy.engine.types.slot import SlotDone, SlotInfo, SlotVerb
from shimmy.engine.types.stats import WorkerStats
from shimmy.errors import ShimmyError
from shimmy.models.status import ModelStatus
from shimmy.models.upgrade_status import UpgradeStatus


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

    @property
    def system(self) -> str | None:
        """The system message of chats that have none."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Defaults of requests, by Ollama's names."""


class Registry(Protocol):
    """Names for models."""

    def entries(self) -> Sequence[ModelEntry]:
        """Return all models; must not block."""

    def resolve(self, name: str | None) -> ModelEntry:
        """Return the model of that name, or raise `ModelNotFoundError`."""

    async def fresh(self) -> Sequence[ModelEntry]:
        """Return all models, after a new search if the last one is some seconds old."""

    async def find(self, name: str | None) -> ModelEntry:
        """Resolve a name, after a new search if nothing has it."""

    def refresh(self) -> Sequence[ModelEntry]:
        """Search the folders again and return all models. Blocks on the disk."""


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

    async def loras(self) -> list[LoraInfo]:
        """Return the LoRA adapters with their default scales."""

    async def set_loras(self, scales: Mapping[int, float]) -> list[LoraInfo]:
        """Change the default scales, 0 for adapters not named."""

    async def slots(self) -> list[SlotInfo]:
        """Return what each slot does."""

    async def stats(self) -> WorkerStats:
        """Return what the worker has done and holds."""

    async def slot_action(self, slot: int, verb: SlotVerb, filename: str = "") -> SlotDone:
        """Save, restore or erase what the last request of a slot left."""

    async def render(self, prompt: ChatPrompt) -> Rendering:
        """Return what the model would read of a conversation, and its length in tokens."""

    async def tokenize(
        self, text: str, *, add_special: bool = True, parse_special: bool = True
    ) -> list[int]:
        """Return the tokens of `text`."""

    async def detokenize(self, tokens: Sequence[int]) -> list[bytes]:
        """Return the bytes of each token."""

    async def embed(self, inputs: Sequence[TextPrompt | TokenPrompt]) -> Embedded:
        """Return a vector for each input."""

    async def rerank(self, query: str, documents: Sequence[str]) -> Reranked:
        """Return a score for each document."""


class Lease(Protocol):
    """A model that stays loaded while it is held."""

    @property
    def entry(self) -> ModelEntry:
        """The model that was meant."""

    @property
    def engine(self) -> Engine:
        """What runs it."""


class Aliases(Protocol):
    """Further names for models, which can be pointed at another model at any time."""

    def all(self) -> dict[str, str]:
        """Return all aliases and what they mean."""

    def point(self, alias: str, model: str) -> None:
        """Let an alias mean a model from now on, or raise `InvalidRequestError`."""

    def remove(self, alias: str) -> bool:
        """Forget an alias; tell whether it was there."""


class Upgrade(Protocol):
    """A better model on its way behind an alias."""

    @property
    def status(self) -> UpgradeStatus:
        """How far it is."""


class Pool(Protocol):
    """Engines by model name."""

    @property
    def aliases(self) -> Aliases:
        """The names that can be pointed elsewhere."""

    @property
    def failure(self) -> ShimmyError | None:
        """Why the default model could not be loaded, for a while."""

    @property
    def is_asleep(self) -> bool:
        """Whether nothing is loaded, for lack of requests and not of health."""

    @property
    def registry(self) -> Registry:
        """The names."""

    @property
    def current(self) -> Engine | None:
        """The engine of the loaded (or loading, or failed) model."""

    async def start(self) -> None:
        """Begin to load the default model and return at once."""

    def use(
        self,
        name: str | None,
        *,
        wait: bool = True,
        load: bool = True,
        patience: float | None = None,
        idle_unload: float | None = None,
    ) -> AbstractAsyncContextManager[Lease]:
        """Hold the model called `name` (None: the default), loading it first if need be.

        Without `wait` or `load` a model that is not ready raises `EngineLoadingError`, after
        `patience` seconds `DeadlineError`. `idle_unload` is how many seconds it stays afterwards.
        """

    async def peek(self, name: str | None) -> Engine:
        """Return the ready engine of a model (None: `current`), or raise why there is none."""

    async def find(self, name: str | None) -> ModelEntry:
        """Return the model of that name or alias, or raise `ModelNotFoundError`."""

    async def load(self, name: str | None, *, wait: bool = True) -> ModelEntry:
        """Load a model, or raise why it cannot be."""

    async def unload(self, name: str | None, *, force: bool = False) -> bool:
        """Unload a model once it is not in use; tell whether it was loaded."""

    def status(self, name: str | None) -> ModelStatus:
        """Return what a model is doing, or raise `ModelNotFoundError`."""

    def statuses(self) -> list[ModelStatus]:
        """Return what all models are doing."""

    async def close(self) -> None:
        """Give up all requests and unload. Idempotent."""
