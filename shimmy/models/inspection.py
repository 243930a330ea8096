"""Everything that the headers of one model say."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from shimmy.errors import GgufError
from shimmy.models.entry import ModelEntry
from shimmy.models.gguf.facts import Facts, facts_of
from shimmy.models.gguf.file import GgufFile, read_gguf
from shimmy.models.shards import paths_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """A model, its first header and that one's facts, and the headers of all shards by path."""

    entry: ModelEntry
    facts: Facts
    files: dict[str, GgufFile]

    @property
    def first(self) -> GgufFile:
        """The header with the metadata."""
        return next(iter(self.files.values()))

    @property
    def tensor_types(self) -> dict[str, int]:
        """How many tensors of each type there are, the most frequent first."""
        types = Counter(tensor.type for file in self.files.values() for tensor in file.tensors)
        return dict(types.most_common())


def inspect(entry: ModelEntry) -> Inspection:
    """Read the headers of a model again, all of them.

    Raises:
        GgufError: one of them cannot be read.
    """
    files = {}
    for path in paths_of(Path(entry.path)):
        try:
            files[str(path)] = read_gguf(path)
        except OSError as error:
            raise GgufError(f"{path} cannot be read: {error.strerror}") from error
    first = next(iter(files.values()))
    return Inspection(entry=entry, facts=facts_of(first), files=files)
