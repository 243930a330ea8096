"""One repository in Hugging Face's cache: `models--ORG--REPO` with blobs, refs and snapshots.

The files of a snapshot are links to blobs; some repositories have a folder per quantisation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from shimmy.models.stores.candidate import Candidate, Skipped
from shimmy.models.stores.listing import UNFINISHED, Listing, list_folder

PREFIX = "models--"
# Folders in a snapshot.
MAX_DEPTH = 3

_REVISION = re.compile(r"[\w.-]{1,100}")


def is_repo(path: Path, listing: Listing) -> bool:
    """Whether a folder is one repository of such a cache."""
    return path.name.startswith(PREFIX) and "snapshots" in listing.folders


def candidates(path: Path) -> Iterator[Candidate | Skipped]:
    """Yield the GGUF files of all snapshots, those of the branch `main` first."""
    repo = path.name.removeprefix(PREFIX).replace("--", "/")
    try:
        for revision in _revisions(path):
            yield from _files(path / "snapshots" / revision, repo, MAX_DEPTH)
        yield from _unfinished(path / "blobs")
    except OSError as error:
        yield Skipped(path=str(path), reason=f"cannot be read: {error.strerror}")


def _revisions(path: Path) -> list[str]:
    revisions = list_folder(path / "snapshots").folders
    try:
        with (path / "refs" / "main").open(encoding="ascii") as file:
            main = file.read(200).strip()
    except (OSError, ValueError):
        main = ""
    if _REVISION.fullmatch(main) and main in revisions:
        revisions.remove(main)
        revisions.insert(0, main)
    return revisions


def _files(folder: Path, repo: str, depth: int) -> Iterator[Candidate | Skipped]:
    listing = list_folder(folder)
    for name in listing.files:
        if name.lower().endswith(".gguf"):
            yield Candidate(
                path=str(folder / name),
                stem=name[: -len(".gguf")],
                store="huggingface",
                folders=tuple(reversed(repo.split("/"))),
                repo=repo,
            )
    for name in listing.folders if depth > 1 else ():
        yield from _files(folder / name, repo, depth - 1)


def _unfinished(blobs: Path) -> Iterator[Skipped]:
    try:
        names = list_folder(blobs).files
    except FileNotFoundError:
        return
    for name in names:
        if name.endswith(".incomplete"):
            yield Skipped(path=str(blobs / name), reason=UNFINISHED)
