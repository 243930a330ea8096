"""Names for models: what a request's `model` means."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from shimmy.config import BASE_GGUF
from shimmy.errors import ConfigError, ModelNotFoundError
from shimmy.models.demo import demo_entry
from shimmy.models.discovery import FoundModel, discover, examine
from shimmy.models.entry import ModelEntry, Source


class Registry:
    """The models there are: registered ones, discovered ones, the built-in demo model last.

    The first of them is the default. Names are unique: a second model of the same name gets its
    folder's name after an `@`. Any thread may call; a scan replaces the list in one assignment.
    """

    def __init__(
        self,
        *,
        registered: Sequence[ModelEntry] = (),
        roots: Iterable[Path] = (),
        builtin: ModelEntry | None = None,
        alias: str | None = None,
    ) -> None:
        """Scan `roots`. `alias` is one more name of the default model."""
        self._registered = list(registered)
        self._roots = list(roots)
        self._builtin = builtin
        self._alias = alias
        self._entries: list[ModelEntry] = []
        self.refresh()

    @classmethod
    def standard(
        cls,
        *,
        model_path: Path | None = None,
        roots: Iterable[Path] = (),
        alias: str | None = None,
    ) -> Registry:
        """Return the registry of a command: `model_path` first, then `roots`, then the demo model.

        `alias` names the model of `model_path`, or else the default model. SHIMMY_BASE_GGUF stands
        in for a missing `model_path` if that file exists.

        Raises:
            ConfigError: `model_path` is not a GGUF file that can be read.
        """
        registered = [register(model_path, name=alias)] if model_path else []
        base = Path(BASE_GGUF.get())
        if not registered and base.is_file():
            registered.append(register(base))
        return cls(
            registered=registered,
            roots=roots,
            builtin=demo_entry(),
            alias=None if model_path else alias,
        )

    def entries(self) -> list[ModelEntry]:
        """Return all models: registered, discovered, built-in."""
        return list(self._entries)

    def refresh(self) -> list[ModelEntry]:
        """Search the folders again and return all models. Blocks on the disk."""
        self._entries = _named(self._registered, discover(self._roots), self._builtin)
        return self.entries()

    def resolve(self, name: str | None) -> ModelEntry:
        """Return the model called `name`; None or "" is the default.

        Where no name is equal, one that differs only in case, in `_`, ` ` and `-`, or by a
        `.gguf` at its end is taken, if there is just one.

        Raises:
            ModelNotFoundError: there is none.
        """
        entries = self._entries
        if not name or name == self._alias:
            if entries:
                return entries[0]
        else:
            for entry in entries:
                if entry.name == name:
                    return entry
            loose = [entry for entry in entries if _loose(entry.name) == _loose(name)]
            if len(loose) == 1:
                return loose[0]
        raise ModelNotFoundError(name or "", [entry.name for entry in entries])


def register(path: Path, *, name: str | None = None) -> ModelEntry:
    """Return the entry of a file that was named outright, called `name` or after the file.

    Raises:
        ConfigError: it is not a GGUF file that can be read.
    """
    path = path.expanduser().absolute()
    try:
        model = examine(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(
            f"model file {path} cannot be read: {reason}; check the path", param="--model-path"
        ) from error
    if model is None:
        raise ConfigError(
            f"{path} is not a GGUF model file; convert it first, or choose another file",
            param="--model-path",
        )
    builtin = demo_entry()
    same = builtin is not None and _real(builtin.path) == _real(path)
    entry = _entry(model, name or model.stem, "registered")
    return msgspec.structs.replace(entry, note=builtin.note) if builtin and same else entry


def _named(
    registered: list[ModelEntry], found: list[FoundModel], builtin: ModelEntry | None
) -> list[ModelEntry]:
    names = {entry.name for entry in registered}
    paths = {_real(entry.path) for entry in registered}
    last = []
    if builtin is not None and _real(builtin.path) not in paths:
        last.append(msgspec.structs.replace(builtin, name=_free(builtin.name, names, "builtin")))
        paths.add(_real(builtin.path))
    discovered = []
    for model in found:
        if _real(model.path) in paths:
            continue
        name = _free(model.stem, names, *reversed(Path(model.path).parent.parts[1:]))
        discovered.append(_entry(model, name, "discovered"))
    return [*registered, *discovered, *last]


def _free(stem: str, taken: set[str], *folders: str) -> str:
    """Take a name for `stem`: with as many of its folders, nearest first, as make it unique."""
    name = stem
    for depth in range(1, len(folders) + 1):
        if name not in taken:
            break
        name = f"{stem}@{'-'.join(reversed(folders[:depth]))}"
    number = 2
    while name in taken:
        name = f"{stem}@{number}"
        number += 1
    taken.add(name)
    return name


def _entry(model: FoundModel, name: str, source: Source) -> ModelEntry:
    return ModelEntry(
        name=name,
        path=model.path,
        size=model.size,
        source=source,
        modified=model.modified,
        architecture=model.architecture,
    )


def _loose(name: str) -> str:
    return name.lower().removesuffix(".gguf").replace("_", "-").replace(" ", "-")


def _real(path: str | Path) -> str:
    return os.path.realpath(path)
