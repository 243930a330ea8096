"""Fetches files and keeps what it has: a pull that broke off goes on where it stopped."""

from __future__ import annotations

import asyncio
import errno
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import aiohttp
from filelock import FileLock, Timeout

from shimmy.errors import GgufError, PullError, UnreachableError
from shimmy.models.gguf.file import read_gguf
from shimmy.models.hub import web
from shimmy.models.hub.remote import Pull, RemoteFile

# in a row without a byte; a connection that breaks after some does not count
_ATTEMPTS = 4
_CHUNK = 1 << 20

Progress = Callable[[str, int], None]
"""Called with a file's name and how many of its bytes are there."""


async def download(pull: Pull, progress: Progress) -> Path:
    """Fetch what is missing of `pull`, and return the file to load.

    Cancelling it, or losing the connection, keeps what has come; the next call goes on there.

    Raises:
        UnreachableError, UnauthorizedError, RemoteError: the server says no, or nothing any more.
        PullError: the disk is full, the content is not what it should be, or another pull is at it.
    """
    pull.check_space()
    with _disk_errors(pull), _locked(pull.folder):
        async with web.session() as session:
            for file in pull.files:
                if not pull.is_there(file):
                    await _fetch(session, pull, file, progress)
                progress(file.name, file.size)
    return pull.main


async def _fetch(
    session: aiohttp.ClientSession, pull: Pull, file: RemoteFile, progress: Progress
) -> None:
    path, part = pull.path(file), pull.part(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    _drop_other_versions(path, part)
    failures = 0
    while (have := _size(part)) < file.size:
        try:
            with web.in_our_words(file.url):
                await _more(session, file, part, progress)
        except UnreachableError:
            failures = failures + 1 if _size(part) <= have else 0
            if failures >= _ATTEMPTS:
                raise
            await asyncio.sleep(0.2 * 2**failures)
    await asyncio.to_thread(_verify, file, part)
    part.replace(path)


async def _more(
    session: aiohttp.ClientSession, file: RemoteFile, part: Path, progress: Progress
) -> None:
    """Add to the part what one answer brings."""
    have = _size(part)
    headers = file.headers | ({"Range": f"bytes={have}-"} if have else {})
    async with session.get(file.url, headers=headers) as response:
        web.check(response)
        if have and not _goes_on(response, have):
            have = 0  # it does not know ranges: all of it comes again
        with _open(part, have) as out:
            progress(file.name, have)
            async for chunk in response.content.iter_chunked(_CHUNK):
                have += len(chunk)
                if have > file.size:
                    raise PullError(f"{file.url} sends more than the {file.size} bytes it stated")
                out.write(chunk)
                out.flush()  # a full disk is noticed here, and a kill loses nothing
                progress(file.name, have)
    if have < file.size:
        raise aiohttp.ClientPayloadError(f"{file.size - have} bytes are missing")


def _goes_on(response: aiohttp.ClientResponse, have: int) -> bool:
    stated = response.headers.get("Content-Range", "")
    return response.status == 206 and stated.startswith(f"bytes {have}-")


def _open(part: Path, have: int) -> BinaryIO:
    out = part.open("r+b" if have else "wb")
    out.seek(have)
    return out


def _verify(file: RemoteFile, part: Path) -> None:
    """Hold the whole part to its sum, or else to being GGUF; what is wrong is thrown away."""
    try:
        if file.sha256 is not None:
            with part.open("rb") as content:
                found = hashlib.file_digest(content, "sha256").hexdigest()
            if found != file.sha256:
                raise PullError(f"{file.name} came damaged: its SHA-256 is not the hub's")
        read_gguf(part)
    except (PullError, GgufError) as error:
        part.unlink(missing_ok=True)
        if isinstance(error, GgufError):
            raise PullError(f"{file.url} is no model: {error.message}") from error
        raise


def _drop_other_versions(path: Path, part: Path) -> None:
    """Remove what is left of a version that the server no longer has, and a link in our place."""
    prefix = f"{path.name}."
    for other in path.parent.iterdir():
        if not (other.name.startswith(prefix) and other.suffix == ".part"):
            continue
        if other != part or other.is_symlink():
            other.unlink(missing_ok=True)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".pull.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise PullError(f"another pull is at work in {folder}: wait until it is done") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _disk_errors(pull: Pull) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise PullError(
                f"the disk of {pull.folder} is full: make room, then the same command goes on "
                "where this one stopped"
            ) from error
        raise PullError(f"{error.filename or pull.folder}: {error.strerror or error}") from error
