"""Models that are split over several files, BASE-00001-of-00003.gguf and so on.

llama.cpp finds the other shards by the name of the first, so names are what counts here.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from shimmy.errors import GgufError
from shimmy.models.gguf.facts import Facts
from shimmy.models.index import Index
from shimmy.models.stores.candidate import Candidate

_NAME = re.compile(r"(?P<base>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Found:
    """A file that is GGUF."""

    candidate: Candidate
    status: os.stat_result
    facts: Facts

    def also(self, other: Candidate) -> Found:
        """Return this file with the names of another way to it as aliases."""
        if other.store == "folder":
            return self  # a link in a folder says nothing new
        aliases = (*self.candidate.aliases, other.stem, *other.aliases)
        return replace(self, candidate=msgspec.structs.replace(self.candidate, aliases=aliases))


@dataclass(frozen=True, slots=True)
class Set:
    """The shards of one model in order, or a single file; `count` is how many there should be."""

    stem: str
    shards: list[Found]
    count: int = 1

    @property
    def first(self) -> Found:
        """The one that is loaded."""
        return self.shards[0]

    @property
    def n_shards(self) -> int:
        """How many there are."""
        return len(self.shards)

    @property
    def size(self) -> int:
        """Bytes of all of them."""
        return sum(shard.status.st_size for shard in self.shards)

    @property
    def modified(self) -> int:
        """When the last of them was written, in Unix seconds."""
        return int(max(shard.status.st_mtime for shard in self.shards))

    @property
    def facts(self) -> Facts:
        """The first shard's facts, with the parameters of all."""
        n_params = sum(shard.facts.n_params for shard in self.shards)
        return msgspec.structs.replace(self.first.facts, n_params=n_params, objection=self.problem)

    @property
    def problem(self) -> str | None:
        """Why these files cannot be loaded; None if nothing speaks against it."""
        if len(self.shards) < self.count:
            return f"{len(self.shards)} of {self.count} shards are there"
        facts = self.first.facts
        if facts.shard:
            return f"shard {facts.shard + 1} of {facts.n_shards}, and the first is not there"
        if facts.n_shards != self.count and facts.n_shards > 1:
            return f"one of {facts.n_shards} shards, but its name does not say which"
        return next((found.facts.objection for found in self.shards if found.facts.objection), None)


def join(found: list[Found]) -> list[Set]:
    """Put shards of one model in one folder together; the order is that of the first ones found."""
    groups: dict[tuple[Path, str, str], list[Found]] = {}
    for item in found:
        path = Path(item.candidate.path)
        if match := _NAME.fullmatch(path.stem):
            groups.setdefault((path.parent, match["base"], match["count"]), []).append(item)
        else:
            # by store and name: several models of Ollama's may have one blob
            groups[path, item.candidate.stem, ""] = [item]
    return [
        Set(base, sorted(items, key=lambda item: item.candidate.path), int(count or 1))
        for (_, base, count), items in groups.items()
    ]


def paths_of(path: Path) -> list[Path]:
    """Return a file, or all shards of the model that it is a part of, in order.

    Raises:
        OSError: its folder cannot be read.
    """
    match = _NAME.fullmatch(path.stem)
    if match is None:
        return [path]
    wanted = (match["base"], match["count"])
    return [
        other
        for other in sorted(path.parent.iterdir())
        if (like := _NAME.fullmatch(other.stem)) and (like["base"], like["count"]) == wanted
        if other.suffix.lower() == ".gguf"
    ]


def of_file(first: Found, index: Index) -> Set:
    """Return a file with the shards that lie beside it."""
    path = Path(first.candidate.path)
    match = _NAME.fullmatch(path.stem)
    if match is None:
        return Set(first.candidate.stem, [first])
    shards = []
    for other in paths_of(path):
        try:
            status = other.stat()
            candidate = Candidate(path=str(other), stem=other.stem)
            shards.append(Found(candidate, status, index.facts(str(other), status)))
        except (OSError, GgufError):
            continue  # counts as one that is not there
    return Set(match["base"], shards, int(match["count"]))
