"""Finds model files in the folders where people keep them, by content rather than by name."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from shimmy.config import BASE_GGUF, MODEL_PATHS
from shimmy.models.header import Header, read_header

# A Hugging Face cache needs 3, a folder per quantisation one more; two to spare.
MAX_DEPTH = 6
# A root such as / must not keep a command busy for minutes.
MAX_FOLDERS = 20_000

_SHARD = re.compile(r"(?P<base>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})", re.IGNORECASE)


class FoundModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model on disk before it has a name of its own; `stem` is the file's, without a shard."""

    stem: str
    path: str
    size: int
    modified: int
    architecture: str | None


class _Found(msgspec.Struct, frozen=True):
    path: Path
    status: os.stat_result
    header: Header


def search_roots(
    model_dirs: str | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> list[Path]:
    """Return the folders to search, in order, whether they exist or not.

    `model_dirs` (the flag --model-dirs) takes the place of SHIMMY_MODEL_PATHS.
    """
    import platformdirs

    here = cwd or Path.cwd()
    roots = [here / "models"]
    if base := BASE_GGUF.get(environ):
        roots.append((here / base).parent)
    listed = MODEL_PATHS.get(environ) if model_dirs is None else model_dirs
    roots += [here / Path(part).expanduser() for part in split_paths(listed)]
    roots.append(Path("~/models").expanduser())
    roots.append(platformdirs.user_data_path("shimmy") / "models")
    return list(dict.fromkeys(roots))


def split_paths(text: str) -> list[str]:
    """Split a list of folders: `;` on every system, and the system's own separator."""
    separators = r"[;]" if sys.platform == "win32" else r"[;:]"
    return [part.strip() for part in re.split(separators, text) if part.strip()]


def discover(roots: Iterable[Path]) -> list[FoundModel]:
    """Return the models under `roots`: roots in order, paths sorted, each real file once.

    What cannot be read is left out. Shards are listed once, under the first one.
    """
    seen_files: set[str] = set()
    seen_folders: set[tuple[int, int]] = set()
    models: list[FoundModel] = []
    for root in roots:
        found: list[_Found] = []
        for path in _walk(root, seen_folders):
            model = _examine(path)
            real = os.path.realpath(path)
            if model is not None and real not in seen_files:
                seen_files.add(real)
                found.append(model)
        models += _join_shards(found)
    return models


def examine(path: Path) -> FoundModel | None:
    """Return the model in one file that was named outright; None when it is not GGUF.

    Raises:
        OSError: there is no such file, or it cannot be read.
    """
    header = read_header(path)
    if header is None:
        return None
    shards = [_Found(path, path.stat(), header)]
    if match := _SHARD.fullmatch(path.stem):
        others = path.parent.glob(f"{_escape(match['base'])}-*-of-{match['count']}.*")
        shards += [
            _Found(other, other.stat(), header)
            for other in others
            if other != path and _SHARD.fullmatch(other.stem)
        ]
    return _model(match["base"] if match else path.stem, shards)


def _walk(root: Path, seen: set[tuple[int, int]]) -> Iterator[Path]:
    """Yield *.gguf files under `root`; each folder once, so that links cannot loop."""
    waiting = [(root, 0)]
    while waiting and len(seen) < MAX_FOLDERS:
        folder, depth = waiting.pop()
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                children = sorted(entries, key=lambda entry: entry.name)
        except OSError:
            continue
        folders = []
        for child in children:
            if child.name.lower().endswith(".gguf") and not _is_folder(child):
                yield Path(child.path)
            elif depth < MAX_DEPTH and not child.name.startswith(".") and _is_folder(child):
                folders.append((Path(child.path), depth + 1))
        waiting += reversed(folders)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _examine(path: Path) -> _Found | None:
    try:
        header = read_header(path)
        if header is None:
            return None
        # only the first shard of a split model says what kind of file it is
        if not header.is_model and not _SHARD.fullmatch(path.stem):
            return None
        return _Found(path, path.stat(), header)
    except OSError:
        return None


def _join_shards(found: list[_Found]) -> list[FoundModel]:
    groups: dict[tuple[Path, str, str], list[_Found]] = {}
    for item in found:
        match = _SHARD.fullmatch(item.path.stem)
        key = (match["base"], match["count"]) if match else (item.path.name, "")
        groups.setdefault((item.path.parent, *key), []).append(item)
    models = []
    for (_, base, count), shards in groups.items():
        if count and int(count) != len(shards):
            continue  # a download that is not complete yet
        models.append(_model(base if count else shards[0].path.stem, shards))
    return models


def _model(stem: str, shards: list[_Found]) -> FoundModel:
    first = min(shards, key=lambda shard: shard.path.name)
    return FoundModel(
        stem=stem,
        path=str(first.path),
        size=sum(shard.status.st_size for shard in shards),
        modified=int(max(shard.status.st_mtime for shard in shards)),
        architecture=first.header.architecture,
    )


def _escape(text: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", text)
