"""Finds out what a specification means: which files, from where, how large."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from shimmy.errors import InvalidRequestError, PullError, UnreachableError
from shimmy.models.hub import web
from shimmy.models.hub.files import Listed, choose, projector
from shimmy.models.hub.remote import Pull, RemoteFile
from shimmy.models.hub.spec import RepoSpec, UrlSpec

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import ModelInfo

_SECONDS = 30.0


async def locate(spec: RepoSpec | UrlSpec, root: Path, *, mmproj: bool = True) -> Pull:
    """Return what is to be fetched for `spec` into `root`; nothing is written yet.

    `mmproj` takes the projector of a multimodal model too.

    Raises:
        InvalidRequestError: no such repository, or not that model in it.
        UnreachableError, UnauthorizedError, RemoteError: the server says no, or nothing.
        PullError: a size is not known, or a redirect leads away from http.
    """
    if isinstance(spec, UrlSpec):
        return await _file(spec, root)
    return await asyncio.to_thread(_repository, spec, root, mmproj=mmproj)


def _repository(spec: RepoSpec, root: Path, *, mmproj: bool) -> Pull:
    from huggingface_hub import HfApi, constants, get_token, hf_hub_url

    # it would ask the hub for a list of programs, to say which of them started us
    constants.HF_HUB_DISABLE_TELEMETRY = True
    # read now: the library reads it once, when it is imported
    endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    if not endpoint.startswith(("http://", "https://")):
        raise PullError(f"HF_ENDPOINT is {endpoint!r}, which is no http(s) URL")
    info = _info(HfApi(endpoint=endpoint), spec, endpoint)
    listed = [
        Listed(item.rfilename, item.size, item.lfs.sha256 if item.lfs else None)
        for item in info.siblings or []
        if isinstance(item.size, int) and item.size > 0
    ]
    variant = choose(spec.repo, listed, spec.quant)
    extra = projector(listed, variant) if mmproj else None
    wanted = [*variant.files, *([extra] if extra else [])]
    token = get_token()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return Pull(
        folder=root.joinpath(*spec.repo.split("/")),
        files=tuple(
            RemoteFile(
                name=file.name,
                url=hf_hub_url(spec.repo, file.name, revision=info.sha, endpoint=endpoint),
                size=file.size,
                version=file.sha256 or _version(info.sha, file.name),
                sha256=file.sha256,
                headers=headers,
            )
            for file in wanted
        ),
        quant=variant.quant,
        mmproj=extra.name if extra else None,
    )


def _info(api: HfApi, spec: RepoSpec, endpoint: str) -> ModelInfo:
    import httpx2
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    try:
        return api.model_info(spec.repo, files_metadata=True, timeout=_SECONDS)
    except OfflineModeIsEnabled as error:
        raise UnreachableError("HF_HUB_OFFLINE is set: unset it to pull") from error
    except GatedRepoError as error:
        raise web.refusal(403, f"{endpoint}/{spec.repo}") from error
    except RepositoryNotFoundError as error:
        raise InvalidRequestError(
            f"there is no repository {spec.repo} at {endpoint}, or it is private: check the name, "
            "or give a token in HF_TOKEN",
            param="SPEC",
        ) from error
    except HfHubHTTPError as error:
        raise web.refusal(error.response.status_code, f"{endpoint}/{spec.repo}") from error
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        raise UnreachableError(
            f"{endpoint} cannot be reached ({error}): check the network and the proxy's settings"
        ) from error
    except ValueError as error:
        raise PullError(f"{endpoint} does not answer as a hub does: {error}") from error


async def _file(spec: UrlSpec, root: Path) -> Pull:
    """Ask for one byte: servers that refuse HEAD answer this, and say how large the whole is."""
    with web.in_our_words(spec.url):
        async with (
            web.session() as session,
            session.get(spec.url, headers={"Range": "bytes=0-0"}) as response,
        ):
            if response.status != 416:  # what an empty file is answered with
                web.check(response)
            size = _total(response.headers.get("Content-Range"), response.content_length)
            said = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
    if not size:
        raise PullError(f"{spec.url} does not say how large it is: fetch it by other means")
    file = RemoteFile(
        name=spec.name, url=spec.url, size=size, version=_version(spec.url, said, str(size))
    )
    return Pull(folder=root / spec.host, files=(file,))


def _total(content_range: str | None, content_length: int | None) -> int:
    if content_range is None:
        return content_length or 0
    total = content_range.rpartition("/")[2]
    return int(total) if total.isascii() and total.isdigit() and len(total) < 20 else 0


def _version(*words: str | None) -> str:
    return hashlib.sha256("\0".join(word or "" for word in words).encode()).hexdigest()
