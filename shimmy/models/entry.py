"""One model that can be asked for by name."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from shimmy.engine.types.options import EngineOptions
from shimmy.errors import GgufError
from shimmy.models.gguf.facts import Kind
from shimmy.models.stores.candidate import Store

Source = Literal["builtin", "registered", "discovered"]

BUILTIN_NOTE = "built-in demo model"


NO_PROJECTORS = "not used: images and sound are not supported yet, text is"
"""What to say where a model's projector is shown."""


class Adapter(msgspec.Struct, frozen=True, kw_only=True):
    """A LoRA adapter that fits a model."""

    name: str
    path: str


class ModelEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A model file and the names it goes by.

    `size` is in bytes, over all shards; `modified` in Unix seconds. `path` is what is loaded: the
    file, or the first shard. What is None the header does not say.

    `lora` (path, scale) belong to the model and are applied; `adapters` are there to be asked for.
    `projector` is the file that turns images or sound into its tokens: it is known to belong to the
    model, and not used yet (`NO_PROJECTORS`). `chat_template` (Jinja),
    `system` and `parameters` (by Ollama's names) are what its store keeps for it. `objection` is
    why it cannot be loaded.
    """

    name: str
    path: str
    size: int
    source: Source
    modified: int
    note: str | None = None
    architecture: str | None = None
    kind: Kind = "llm"
    aliases: tuple[str, ...] = ()
    store: Store = "folder"
    size_label: str | None = None
    n_params: int = 0
    quantisation: str | None = None
    n_ctx_train: int | None = None
    n_expert: int | None = None
    n_shards: int = 1
    has_template: bool = False
    adapters: tuple[Adapter, ...] = ()
    lora: tuple[tuple[str, float], ...] = ()
    projector: str | None = None
    chat_template: str | None = None
    system: str | None = None
    parameters: dict[str, Any] = {}
    objection: str | None = None

    @property
    def title(self) -> str:
        """The name as people see it, with the note that must not be left out."""
        return f"{self.name} ({self.note})" if self.note else self.name

    def options(self, base: EngineOptions) -> EngineOptions:
        """Return `base` for this model: its file, its own adapters, its store's template.

        What `base` asks for outright goes on top: its adapters come after, its template wins.

        Raises:
            GgufError: the header says that the model cannot be loaded.
        """
        if self.objection is not None:
            raise GgufError(f"{self.path} cannot be loaded: {self.objection}")
        return msgspec.structs.replace(
            base,
            model_path=self.path,
            lora=[*self.lora, *base.lora],
            chat_template=base.chat_template or self.chat_template,
        )
