"""How far a better model is on its way, as a value: for the status pages."""

from __future__ import annotations

from typing import Literal

import msgspec

State = Literal["choosing", "locating", "fetching", "loading", "done", "kept", "failed"]


class UpgradeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How far it is: `alias` means `starter`, until `model` is there. Sizes in bytes.

    `kept` is the end where nothing better was found; `error` says why it `failed`.
    """

    alias: str
    starter: str
    state: State = "choosing"
    model: str | None = None
    n_bytes: int = 0
    size: int = 0
    error: str | None = None

    @property
    def progress(self) -> float:
        """How much of the files is there, 0 to 1."""
        return self.n_bytes / self.size if self.size else 0.0
