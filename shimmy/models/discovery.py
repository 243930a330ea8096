"""Finds model files in the folders where people and programs keep them, by content, not by name."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from shimmy.config import BASE_GGUF, MODEL_PATHS
from shimmy.errors import GgufError
from shimmy.models.gguf.facts import MODELS, Facts
from shimmy.models.index import Index
from shimmy.models.shards import Found, Set, join, of_file
from shimmy.models.stores.candidate import NO_EXTRAS, Candidate, Extras, Skipped, Store
from shimmy.models.stores.folder import Seen, walk
from shimmy.models.stores.places import Machine, listed_folders, places


class FoundModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model on disk before it has a name of its own; `size` and counts are of all its shards.

    `file` tells the (first) file from every other, whatever path leads to it.
    """

    stem: str
    path: str
    file: tuple[int, int]
    size: int
    modified: int
    facts: Facts
    n_shards: int = 1
    store: Store = "folder"
    aliases: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    extras: Extras = NO_EXTRAS


class FoundPart(msgspec.Struct, frozen=True, kw_only=True):
    """A LoRA adapter or a projector: no model, but of use to one."""

    stem: str
    path: str
    facts: Facts


class Scan(msgspec.Struct, frozen=True, kw_only=True):
    """What lies in the searched folders."""

    models: list[FoundModel]
    adapters: list[FoundPart] = []
    projectors: list[FoundPart] = []
    skipped: list[Skipped] = []


def search_roots(
    model_dirs: str | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> list[Path]:
    """Return the folders to search, in order, whether they exist or not.

    `model_dirs` (the flag --model-dirs) takes the place of SHIMMY_MODEL_PATHS.
    """
    machine = _machine(environ, cwd)
    listed = MODEL_PATHS.get(environ) if model_dirs is None else model_dirs
    found = places(machine, base_gguf=BASE_GGUF.get(environ), listed=listed)
    return [Path(place) for place in found]


def not_folders(model_dirs: str) -> list[Path]:
    """Return those of the folders in `model_dirs` that are none; what may not be seen counts as one."""
    found = []
    for place in listed_folders(_machine(None, None), model_dirs):
        path = Path(place)
        with contextlib.suppress(OSError):  # the search says so itself
            if not path.is_dir():
                found.append(path)
    return found


def _machine(environ: Mapping[str, str] | None, cwd: Path | None) -> Machine:
    return Machine(
        platform=sys.platform,
        environ=os.environ if environ is None else environ,
        home=str(Path.home()),
        cwd=str(cwd or Path.cwd()),
    )


def discover(roots: Iterable[Path], index: Index | None = None) -> Scan:
    """Return what is under `roots`: roots in order, paths sorted, each real file once.

    Shards are listed once, under the first one. `index` spares reading what it knows.
    """
    index = index or Index()
    seen: Seen = {}
    found: list[Found] = []
    skipped: dict[str, Skipped] = {}
    for root in roots:
        for item in walk(root, seen):
            outcome = item if isinstance(item, Skipped) else _look(item, index)
            if isinstance(outcome, Skipped):
                skipped.setdefault(outcome.path, outcome)
            else:
                found.append(outcome)
    index.save()
    return _sort(_once(found), list(skipped.values()))


def examine(path: Path) -> FoundModel:
    """Return the model in one file that was named outright, with the shards beside it.

    Raises:
        GgufError: it is no GGUF file.
        OSError: there is no such file, or it cannot be read.
    """
    index = Index()
    candidate = Candidate(path=os.fspath(path), stem=path.stem)
    status = path.stat()
    first = Found(candidate, status, index.facts(candidate.path, status))
    return _model(of_file(first, index))


def file_of(status: os.stat_result) -> tuple[int, int]:
    """Return what tells a file from every other on this machine."""
    return status.st_dev, status.st_ino


def _look(candidate: Candidate, index: Index) -> Found | Skipped:
    path = candidate.path
    try:
        path.encode()
        status = Path(path).stat()
        return Found(candidate, status, index.facts(path, status))
    except UnicodeEncodeError:
        # neither JSON nor the worker's frames can carry it
        return Skipped(
            path=os.fsencode(path).decode("utf-8", "replace"),
            reason="its path is not UTF-8: rename it",
        )
    except FileNotFoundError:
        return Skipped(path=path, reason="a link that leads nowhere")
    except GgufError as error:
        return Skipped(path=path, reason=error.message)
    except OSError as error:
        return Skipped(path=path, reason=f"cannot be read: {error.strerror}")


def _once(found: list[Found]) -> list[Found]:
    """Drop what was found before by another way, unless it comes with other extras."""
    kept: dict[tuple[tuple[int, int], bytes], Found] = {}
    for item in found:
        key = (file_of(item.status), msgspec.msgpack.encode(item.candidate.extras))
        if first := kept.get(key):
            kept[key] = first.also(item.candidate)
        else:
            kept[key] = item
    return list(kept.values())


def _sort(found: list[Found], skipped: list[Skipped]) -> Scan:
    models: list[FoundModel] = []
    parts: dict[str, list[FoundPart]] = {"adapter": [], "mmproj": []}
    for group in join(found):
        first = group.first
        kind = first.facts.kind
        if problem := group.problem:
            skipped.append(Skipped(path=first.candidate.path, reason=problem))
        elif kind in MODELS:
            models.append(_model(group))
        elif kind in parts:
            path = first.candidate.path
            parts[kind].append(FoundPart(stem=first.candidate.stem, path=path, facts=first.facts))
        else:
            reason = f"no model that can be loaded by itself ({first.facts.architecture or kind})"
            skipped.append(Skipped(path=first.candidate.path, reason=reason))
    return Scan(
        models=models, adapters=parts["adapter"], projectors=parts["mmproj"], skipped=skipped
    )


def _model(group: Set) -> FoundModel:
    candidate, facts = group.first.candidate, group.facts
    aliases = candidate.aliases
    if candidate.repo:
        aliases += (f"{candidate.repo}:{facts.quantisation}", candidate.repo)
    return FoundModel(
        stem=group.stem,
        path=candidate.path,
        file=file_of(group.first.status),
        size=group.size,
        modified=group.modified,
        facts=facts,
        n_shards=group.n_shards,
        store=candidate.store,
        aliases=aliases,
        folders=candidate.folders,
        extras=candidate.extras,
    )
