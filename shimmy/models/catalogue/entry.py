"""One model of the catalogue, and what it takes."""

from __future__ import annotations

from typing import Literal

import msgspec

Use = Literal["chat", "code", "tools", "embedding"]
USES: tuple[Use, ...] = ("chat", "code", "tools", "embedding")

# keys and values, two bytes each
_F16_PAIR = 4


class CatalogueModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A published model and the repository of its GGUF files; None is what its source does not say.

    `quants` are files that are there, the usual one first. `n_swa` cells are all that `n_layer_swa`
    of the layers keep. `bits` are per parameter, where a type's usual figure is not this model's.
    `as_of` and `checked` are months: of the source, and in which others were found to agree with it.
    """

    name: str
    family: str
    repo: str
    quants: tuple[str, ...]
    n_params: int
    n_layer: int
    n_head_kv: int
    n_embd_head: int
    n_ctx_train: int
    uses: tuple[Use, ...]
    source: str
    as_of: str
    checked: str | None = None
    n_params_active: int | None = None
    n_swa: int | None = None
    n_layer_swa: int | None = None
    tools: bool | None = None
    vision: bool | None = None
    draft: str | None = None
    licence: str | None = None
    bits: dict[str, float] = {}

    @property
    def quant(self) -> str:
        """The usual quantisation."""
        return self.quants[0]

    def kv_bytes(self, n_ctx: int) -> int:
        """Return the bytes of an f16 KV cache of `n_ctx` cells: layers x cells x heads x width."""
        n_swa, n_layer_swa = self.n_swa or 0, self.n_layer_swa or 0
        cells = (self.n_layer - n_layer_swa) * n_ctx + n_layer_swa * min(n_ctx, n_swa)
        return _F16_PAIR * cells * self.n_head_kv * self.n_embd_head
