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

Seen = set[tuple[int, int]]


class _Folder(msgspec.Struct, frozen=True):
    path: Path
    depth: int


def walk(root: Path, seen: Seen) -> Iterator[Candidate | Skipped]:
    """Yield what lies under `root`, by path; each folder once (`seen`), so that links cannot loop.

    A folder that is laid out like Ollama's or Hugging Face's is read as one. A root that does not
    exist yields nothing.
    """
    waiting = [_Folder(root, 0)]
    while waiting and len(seen) < MAX_FOLDERS:
        folder = waiting.pop()
        try:
            status = folder.path.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            listing = list_folder(folder.path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            yield Skipped(path=str(folder.path), reason=f"cannot be read: {error.strerror}")
            continue
        if ollama.is_store(listing):
            yield from ollama.candidates(folder.path)
            continue
        if huggingface.is_repo(folder.path, listing):
            yield from huggingface.candidates(folder.path)
            continue
        yield from _files(folder.path, listing)
        if folder.depth < MAX_DEPTH:
            below = [name for name in listing.folders if not name.startswith(".")]
            waiting += [_Folder(folder.path / name, folder.depth + 1) for name in reversed(below)]


def _files(folder: Path, listing: Listing) -> Iterator[Candidate | Skipped]:
    folders = tuple(reversed(folder.parts[1:]))
    for name in listing.files:
        path = str(folder / name)
        if listing.is_unfinished(name):
            yield Skipped(path=path, reason=UNFINISHED)
        elif name.lower().endswith(".gguf"):
            yield Candidate(path=path, stem=name[: -len(".gguf")], folders=folders)
