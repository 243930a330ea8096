"""One model that can be asked for by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from shimmy.engine.types.options import EngineOptions
from shimmy.errors import GgufError
from shimmy.models.gguf.facts import Kind
from shimmy.models.gguf.projector import Sense
from shimmy.models.projector import check, check_image_tokens, size
from shimmy.models.stores.candidate import Store

Source = Literal["builtin", "registered", "discovered"]

BUILTIN_NOTE = "built-in demo model"


class Adapter(msgspec.Struct, frozen=True, kw_only=True):
    """A LoRA adapter that fits a model."""

    name: str
    path: str


class ModelEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A model file and the names it goes by.

    `size` is in bytes, over all shards; `modified` in Unix seconds. `path` is what is loaded: the
    file, or the first shard. What is None the header does not say.

    `lora` (path, scale) belong to the model and are applied; `adapters` are there to be asked for.
    `projector` is the file that turns images or sound (`senses`) into its tokens; with a
    `projector_objection` it must not be loaded, and the model goes without. `chat_template` (Jinja),
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
    n_embd: int | None = None
    n_expert: int | None = None
    n_shards: int = 1
    has_template: bool = False
    adapters: tuple[Adapter, ...] = ()
    lora: tuple[tuple[str, float], ...] = ()
    projector: str | None = None
    senses: tuple[Sense, ...] = ()
    projector_objection: str | None = None
    chat_template: str | None = None
    system: str | None = None
    parameters: dict[str, Any] = {}
    objection: str | None = None

    @property
    def title(self) -> str:
        """The name as people see it, with the note that must not be left out."""
        return f"{self.name} ({self.note})" if self.note else self.name

    @property
    def sees(self) -> bool:
        """Whether the model's own projector lets it see images."""
        return "vision" in self.senses and self.projector_objection is None

    @property
    def projector_use(self) -> str:
        """What the projector is good for, in words."""
        if self.projector_objection is not None:
            return f"not used: {self.projector_objection}"
        if not self.senses:
            return "not used: its header names neither images nor sound"
        if not self.sees:
            return "not used: sound is not supported yet"
        return "vision, not sound yet" if "audio" in self.senses else "vision"

    def weights(self) -> int:
        """Return the bytes of the files that are loaded by default: its own, and the projector by which it sees."""
        return self.size + size(self.projector if self.sees else None)

    def mmproj(self, base: EngineOptions) -> str | None:
        """Return the projector that this model is loaded with: the one that `base` names, or its own."""
        if not base.use_mmproj:
            return None
        return base.mmproj or (self.projector if self.sees else None)

    def options(self, base: EngineOptions) -> EngineOptions:
        """Return `base` for this model: its file, its own adapters, its projector, its store's template.

        What `base` asks for outright goes on top: its adapters come after, its projector and its
        template win.

        Raises:
            GgufError: the header says that the model cannot be loaded.
            ConfigError: the projector that `base` names is none, or another model's.
        """
        if self.objection is not None:
            raise GgufError(f"{self.path} cannot be loaded: {self.objection}")
        check_image_tokens(base)
        mmproj = self.mmproj(base)
        # its own was looked at when it was found
        if mmproj is not None and mmproj == base.mmproj:
            check(Path(mmproj), self.name, self.n_embd)
        return msgspec.structs.replace(
            base,
            model_path=self.path,
            mmproj=mmproj,
            mmproj_required=mmproj is None or mmproj == base.mmproj,
            lora=[*self.lora, *base.lora],
            chat_template=base.chat_template or self.chat_template,
        )
