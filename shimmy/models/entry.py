"""One model that can be asked for by name."""

from __future__ import annotations

from typing import Literal

import msgspec

Source = Literal["builtin", "registered", "discovered"]

BUILTIN_NOTE = "built-in demo model"


class ModelEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A model file and the name it goes by.

    `size` is in bytes, over all shards; `modified` in Unix seconds. `path` is what is loaded: the
    file, or the first shard. `architecture` is the header's own word, None when it has none.
    """

    name: str
    path: str
    size: int
    source: Source
    modified: int
    note: str | None = None
    architecture: str | None = None

    @property
    def title(self) -> str:
        """The name as people see it, with the note that must not be left out."""
        return f"{self.name} ({self.note})" if self.note else self.name
