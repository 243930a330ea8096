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
from shimmy.models.hub.files import quant_of
from shimmy.models.index import Index
from shimmy.models.shards import Found, Set, join, of_file
from shimmy.models.stores.candidate import NO_EXTRAS, Candidate, Extras, Skipped, Store
from shimmy.models.stores.folder import Seen, walk
from shimmy.models.stores.listing import list_folder
from shimmy.models.stores.places import Machine, listed_folders, places

MAX_BESIDE = 256
"""How many files of a folder are looked at for one model's sake."""


class FoundPart(msgspec.Struct, frozen=True, kw_only=True):
    """A LoRA adapter or a projector: no model, but of use to one."""

    stem: str
    path: str
    facts: Facts


class FoundModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model on disk before it has a name of its own; `size` and counts are of all its shards.

    `file` tells the (first) file from every other, whatever path leads to it. `projector` is the one
    that its store keeps with it, whatever it is worth.
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
    projector: FoundPart | None = None


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
    scan = _sort(_once(found), list(skipped.values()), index)
    index.save()
    return scan


def beside(path: Path, index: Index) -> Scan:
    """Return what lies in the folder of a file, and in that above it where this one is a quantisation's.

    Of a folder with very many files the rest is left out, those that are not called projectors first.
    """
    found: list[Found] = []
    for folder in homes(path):
        try:
            names = [name for name in list_folder(folder).files if name.lower().endswith(".gguf")]
        except OSError:
            continue
        names.sort(key=lambda name: "mmproj" not in name.lower())
        for name in names[:MAX_BESIDE]:
            item = _look(Candidate(path=str(folder / name), stem=name[: -len(".gguf")]), index)
            if isinstance(item, Found):
                found.append(item)
    return _sort(found, [], index)


def homes(path: Path) -> list[Path]:
    """Return the folders in which a model's projector may lie: its own, and the one with all quantisations."""
    folder = path.parent
    return [folder, folder.parent] if quant_of(folder.name) else [folder]


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
    return _model(of_file(first, index), index)


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


def _sort(found: list[Found], skipped: list[Skipped], index: Index) -> Scan:
    models: list[FoundModel] = []
    parts: dict[str, list[FoundPart]] = {"adapter": [], "mmproj": []}
    for group in join(found):
        first = group.first
        kind = first.facts.kind
        if problem := group.problem:
            skipped.append(Skipped(path=first.candidate.path, reason=problem))
        elif kind in MODELS:
            models.append(_model(group, index))
        elif kind in parts:
            path = first.candidate.path
            parts[kind].append(FoundPart(stem=first.candidate.stem, path=path, facts=first.facts))
        else:
            reason = f"no model that can be loaded by itself ({first.facts.architecture or kind})"
            skipped.append(Skipped(path=first.candidate.path, reason=reason))
    return Scan(
        models=models, adapters=parts["adapter"], projectors=parts["mmproj"], skipped=skipped
    )


def _model(group: Set, index: Index) -> FoundModel:
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
        projector=_layer(candidate.extras.projector, index),
    )


def _layer(path: str | None, index: Index) -> FoundPart | None:
    """Return the projector that a store names; one that cannot be used with the reason."""
    if path is None:
        return None
    stem = Path(path).name
    item = _look(Candidate(path=path, stem=stem), index)
    if isinstance(item, Skipped):
        facts = Facts(kind="mmproj", objection=item.reason)
    elif item.facts.kind != "mmproj":
        reason = f"it is no projector, its metadata says {item.facts.kind}"
        facts = msgspec.structs.replace(item.facts, objection=reason)
    else:
        facts = item.facts
    return FoundPart(stem=stem, path=path, facts=facts)
