"""What `shimmy pull` is asked for: a repository, a URL, or a name of the catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from shimmy.errors import InvalidRequestError
from shimmy.models.hub.names import REPO, is_safe

_FORMS = (
    "hf:org/repo[:quantisation], an http(s) URL of a .gguf file, or a name of `shimmy recommend`"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RepoSpec:
    """A model in a hub's repository; `quant` is a quantisation or a file's name, None the usual one."""

    repo: str
    quant: str | None = None

    def __str__(self) -> str:
        """Return it as it is written on the command line."""
        return f"hf:{self.repo}:{self.quant}" if self.quant else f"hf:{self.repo}"


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlSpec:
    """One file behind a URL; `host` and `name` are parts of the path that it is kept at."""

    url: str
    host: str
    name: str

    def __str__(self) -> str:
        """Return the URL."""
        return self.url


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueSpec:
    """A name that the catalogue may know, and a quantisation of it."""

    name: str
    quant: str | None = None


Spec = RepoSpec | UrlSpec | CatalogueSpec


def parse(text: str) -> Spec:
    """Read a specification.

    Raises:
        InvalidRequestError: it is none of the forms; says what they are.
    """
    text = text.strip()
    if text.lower().startswith(("http://", "https://")):
        return _url(text)
    if text.lower().startswith("hf:"):
        return _repo(text[3:].removeprefix("//"), text)
    if "/" in text and "://" not in text:
        return _repo(text, text)
    name, _, quant = text.partition(":")
    if not name or "/" in text:
        raise InvalidRequestError(f"{text!r} is not {_FORMS}", param="SPEC")
    return CatalogueSpec(name=name, quant=quant or None)


def _repo(text: str, whole: str) -> RepoSpec:
    repo, _, quant = text.partition(":")
    if REPO.fullmatch(repo) is None or ".." in repo:
        raise InvalidRequestError(f"{whole!r}: a repository is org/repo", param="SPEC")
    return RepoSpec(repo=repo, quant=quant or None)


def _url(text: str) -> UrlSpec:
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise InvalidRequestError(f"{text!r} is no URL: {error}", param="SPEC") from error
    if parts.username or parts.password:
        raise InvalidRequestError("the URL may not hold a password", param="SPEC")
    name = unquote(parts.path.rpartition("/")[2])
    if not name.lower().endswith(".gguf") or "/" in name or not is_safe(name):
        raise InvalidRequestError(
            f"{text!r} does not end in the name of a .gguf file", param="SPEC"
        )
    place = host.replace(":", "_") + (f"_{port}" if port else "")
    if not is_safe(place):
        raise InvalidRequestError(f"{text!r} names no host", param="SPEC")
    return UrlSpec(url=text, host=place, name=name)
