"""Plain folders with GGUF files in them, however deep; also LM Studio's and llama.cpp's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from shimmy.models.stores import huggingface, ollama
from shimmy.models.stores.candidate import Candidate, Skipped
from shimmy.models.stores.listing import UNFINISHED, Listing, list_folder

# A Hugging Face cache inside a folder needs 3, a folder per quantisation one more; two to spare.
MAX_DEPTH = 6
# A root such as / must not keep a command busy for minutes.
MAX_FOLDERS = 20_000
# Hidden, and yet where models are kept in a home.
HOMES = frozenset({".cache", ".local", ".lmstudio", ".ollama"})

# how deep under its root each folder lay when it was read: less deep there is more to see under it
Seen = dict[tuple[int, int], int]

_TOO_MANY = (
    f"{{root}} has more than {MAX_FOLDERS} folders: from this one on they are not searched; "
    "name the folder of the models instead"
)


class _Folder(msgspec.Struct, frozen=True):
    path: Path
    depth: int


def walk(root: Path, seen: Seen) -> Iterator[Candidate | Skipped]:
    """Yield what lies under `root`, by path; each folder once (`seen`), so that links cannot loop.

    A folder that is laid out like Ollama's or Hugging Face's is read as one. A root that does not
    exist yields nothing.
    """
    waiting = [_Folder(root, 0)]
    n_read = 0
    while waiting:
        folder = waiting.pop()
        try:
            status = folder.path.stat()
            key = (status.st_dev, status.st_ino)
            if seen.get(key, folder.depth + 1) <= folder.depth:
                continue
            if n_read == MAX_FOLDERS:
                yield Skipped(path=str(folder.path), reason=_TOO_MANY.format(root=root))
                return
            n_read += 1
            seen[key] = folder.depth
            listing = list_folder(folder.path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            yield Skipped(path=str(folder.path), reason=f"cannot be read: {error.strerror}")
            continue
        yield from _read(folder.path, listing)
        if folder.depth < MAX_DEPTH:
            below = _below(folder.path, listing)
            waiting += [_Folder(path, folder.depth + 1) for path in reversed(below)]


def _read(folder: Path, listing: Listing) -> Iterator[Candidate | Skipped]:
    """Yield what one folder holds, the folders of a store's own layout with it."""
    if huggingface.is_repo(folder, listing):
        yield from huggingface.candidates(folder)
        return
    if ollama.is_store(listing):
        yield from ollama.candidates(folder)
    yield from _files(folder, listing)


def _below(folder: Path, listing: Listing) -> list[Path]:
    """Return the folders to look into next: hidden ones only where models are kept, and last."""
    if huggingface.is_repo(folder, listing):
        return []
    own = ollama.FOLDERS if ollama.is_store(listing) else frozenset()
    names = [name for name in listing.folders if name not in own]
    shown = [name for name in names if not name.startswith(".")]
    return [folder / name for name in (*shown, *(name for name in names if name in HOMES))]


def _files(folder: Path, listing: Listing) -> Iterator[Candidate | Skipped]:
    folders = tuple(reversed(folder.parts[1:]))
    for name in listing.files:
        path = str(folder / name)
        if listing.is_unfinished(name):
            yield Skipped(path=path, reason=UNFINISHED)
        elif name.lower().endswith(".gguf"):
            yield Candidate(path=path, stem=name[: -len(".gguf")], folders=folders)
