"""Ollama's store: manifests that name blobs by their digest.

A manifest lies under manifests/HOST/NAMESPACE/MODEL/TAG and lists layers; the model is one of them,
its template, parameters, system prompt, adapters and projector are others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from shimmy.models.stores.candidate import Candidate, Extras, Skipped
from shimmy.models.stores.listing import Listing, list_folder

MAX_MANIFEST = 1024 * 1024
MAX_TEXT = 1024 * 1024

_HOST = "registry.ollama.ai"
_NAMESPACE = "library"
_TAG = "latest"
_MEDIA = "application/vnd.ollama.image."
# a digest becomes a file name: nothing else may get through
_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")


FOLDERS = frozenset({"manifests", "blobs"})
"""What a store is made of; anything else beside them lies there by itself."""

_Blobs = dict[str, list[Path]]


class _Layer(msgspec.Struct, frozen=True, rename="camel"):
    media_type: str
    digest: str


class _Manifest(msgspec.Struct, frozen=True):
    layers: list[_Layer] = []


class _BadManifestError(Exception):
    """A manifest that names no usable model; the text says why."""


def is_store(listing: Listing) -> bool:
    """Whether a folder is laid out like Ollama's."""
    return set(listing.folders) >= FOLDERS


def candidates(store: Path) -> Iterator[Candidate | Skipped]:
    """Yield the model of every manifest, under Ollama's name for it."""
    root = store / "manifests"
    for path in _below(root, 4):
        parts = path.relative_to(root).parts
        try:
            yield _candidate(store, path, parts)
        except _BadManifestError as error:
            yield Skipped(path=str(path), reason=str(error))
        except OSError as error:
            yield Skipped(path=str(path), reason=f"cannot be read: {error.strerror}")


def name_of(host: str, namespace: str, model: str, tag: str) -> str:
    """Return what Ollama calls a model: without the parts that are its defaults."""
    name = f"{model}:{tag}"
    if (host, namespace) == (_HOST, _NAMESPACE):
        return name
    return f"{namespace}/{name}" if host == _HOST else f"{host}/{namespace}/{name}"


def _below(folder: Path, depth: int) -> Iterator[Path]:
    """Yield the files that lie exactly `depth` levels under a folder; unreadable ones are no store's."""
    try:
        listing = list_folder(folder)
    except OSError:
        return
    if depth == 1:
        yield from (folder / name for name in listing.files if name[0] != ".")
    else:
        for name in listing.folders:
            yield from _below(folder / name, depth - 1)


def _candidate(store: Path, path: Path, parts: tuple[str, ...]) -> Candidate:
    manifest = _manifest(path)
    name = name_of(*parts)
    layers: _Blobs = {}
    for layer in manifest.layers:
        kind = layer.media_type.removeprefix(_MEDIA)
        layers.setdefault(kind, []).append(_blob(store, layer.digest))
    if "model" not in layers:
        raise _BadManifestError("its manifest names no GGUF model")
    model = layers["model"][0]
    if not model.exists():
        raise _BadManifestError(f"its blob {model.name} is not there: pull it again")
    for adapter in layers.get("adapter", ()):
        if not adapter.exists():
            raise _BadManifestError(f"its adapter {adapter.name} is not there: pull it again")
    return Candidate(
        path=str(model),
        stem=name,
        store="ollama",
        aliases=(name.removesuffix(f":{_TAG}"),) if parts[-1] == _TAG else (),
        folders=("ollama",),
        extras=Extras(
            lora=tuple(map(str, layers.get("adapter", ()))),
            projector=next(map(str, layers.get("projector", ())), None),
            template=_text(layers, "template"),
            system=_text(layers, "system"),
            parameters=_parameters(layers),
        ),
    )


def _manifest(path: Path) -> _Manifest:
    with path.open("rb") as file:
        content = file.read(MAX_MANIFEST + 1)
    if len(content) > MAX_MANIFEST:
        raise _BadManifestError("its manifest is too large to be one")
    try:
        return msgspec.json.decode(content, type=_Manifest)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _BadManifestError(f"its manifest cannot be read: {error}") from error


def _blob(store: Path, digest: str) -> Path:
    match = _DIGEST.fullmatch(digest)
    if match is None:
        raise _BadManifestError("its manifest names a blob that is no sha256 digest")
    for separator in "-:":  # the second is how older versions wrote it
        path = store / "blobs" / f"sha256{separator}{match[1]}"
        if path.exists():
            return path
    return store / "blobs" / f"sha256-{match[1]}"


def _text(layers: _Blobs, kind: str) -> str | None:
    """Return the text of the first layer of a kind; None where there is none that can be read."""
    for path in layers.get(kind, ()):
        try:
            with path.open("rb") as file:
                content = file.read(MAX_TEXT + 1)
        except OSError:
            return None
        return content.decode("utf-8", "replace") if len(content) <= MAX_TEXT else None
    return None


def _parameters(layers: _Blobs) -> dict[str, Any]:
    text = _text(layers, "params")
    try:
        return msgspec.json.decode(text or "{}", type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return {}
