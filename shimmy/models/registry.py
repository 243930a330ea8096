"""Names for models: what a request's `model` means."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from shimmy.config import BASE_GGUF, LORA_GGUF
from shimmy.errors import ConfigError, GgufError, ModelNotFoundError
from shimmy.models.adapter import flaw
from shimmy.models.demo import demo_entry
from shimmy.models.discovery import Scan, beside, discover, examine, file_of
from shimmy.models.entries import entry_of
from shimmy.models.entry import ModelEntry
from shimmy.models.gguf.facts import Kind
from shimmy.models.index import Index
from shimmy.models.naming import Identity, closest, free_name, loose, name_all
from shimmy.models.owners import Owners
from shimmy.models.projectors import belonging

# Seconds after which a list of models is looked at again before it is shown.
FRESH = 5.0
# The same for a name that nothing has: somebody may wait for a file that was just put there.
FRESH_UNKNOWN = 1.0
# A scan may take this part of the time at most, however often it is asked for.
SHARE = 0.1

_NO_MODELS: dict[Kind, str] = {
    "adapter": "it is a LoRA adapter, no model: give the model, and this with --lora",
    "mmproj": "it is the projector of a multimodal model: give the model, and this with --mmproj",
    "shard": "it is a later shard of a split model: give the first",
    "vocabulary": "it holds a vocabulary and no weights",
}


class Registry:
    """The models there are: registered ones, discovered ones, the built-in demo model last.

    The first of them that writes text is the default. Names are unique: a second model of the same name gets its
    folder's name after an `@`. Any thread may call; a scan replaces the list in one assignment.
    """

    def __init__(
        self,
        *,
        registered: Sequence[ModelEntry] = (),
        roots: Iterable[Path] = (),
        builtin: ModelEntry | None = None,
        alias: str | None = None,
        index: Index | None = None,
        owners: Owners | None = None,
    ) -> None:
        """Scan `roots`. `alias` is one more name of the default model."""
        self._registered = list(registered)
        self._roots = list(roots)
        self._builtin = builtin
        self._alias = alias
        self._index = index or Index()
        self._owners = owners or Owners()
        self._names: dict[Identity, str] = self._owners.names()
        self._lock = threading.Lock()
        self._entries: list[ModelEntry] = []
        self._scan = Scan(models=[])
        self._next_scan = 0.0
        self._scanning: asyncio.Task[list[ModelEntry]] | None = None
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
        in for a missing `model_path` if that file exists; SHIMMY_LORA_GGUF is its adapter.

        Raises:
            ConfigError: `model_path` is not a GGUF file that can be read, or the adapter is none.
        """
        index = Index.standard()
        registered = [register(model_path, name=alias, index=index)] if model_path else []
        base = Path(BASE_GGUF.get())
        if not registered and _is_file(base):
            registered.append(_with_lora(register(base, index=index)))
        return cls(
            registered=registered,
            roots=roots,
            builtin=demo_entry(),
            alias=None if model_path else alias,
            index=index,
            owners=Owners.standard(),
        )

    @property
    def scan(self) -> Scan:
        """What the last search of the folders found, the files that are no models too."""
        return self._scan

    def entries(self) -> list[ModelEntry]:
        """Return all models: registered, discovered, built-in."""
        return list(self._entries)

    def refresh(self) -> list[ModelEntry]:
        """Search the folders again and return all models. Blocks on the disk."""
        with self._lock:
            start = time.monotonic()
            self._scan = discover(self._roots, self._index)
            self._entries = self._named()
            now = time.monotonic()
            self._next_scan = now + (now - start) / SHARE
        return self.entries()

    async def fresh(self, max_age: float = FRESH) -> list[ModelEntry]:
        """Return all models as they were at most `max_age` seconds ago (more if a scan is slow).

        Searches on another thread; all who ask meanwhile share one search.
        """
        now = time.monotonic()
        if now >= self._next_scan + max_age:
            if self._scanning is None or self._scanning.done():
                self._scanning = asyncio.create_task(asyncio.to_thread(self.refresh))
            await asyncio.shield(self._scanning)
        return self.entries()

    async def find(self, name: str | None) -> ModelEntry:
        """Return the model called `name`, after a new search if nothing is called so.

        Raises:
            ModelNotFoundError: there is none.
        """
        try:
            return self.resolve(name)
        except ModelNotFoundError:
            await self.fresh(FRESH_UNKNOWN)
            return self.resolve(name)

    def resolve(self, name: str | None) -> ModelEntry:
        """Return the model called `name`; None or "" is the default.

        Where no name and no alias is equal, one that differs only in case, in `_`, ` ` and `-`, or
        by a `.gguf` at its end is taken, if there is just one.

        Raises:
            ModelNotFoundError: there is none.
        """
        entries = self._entries
        if not name or name == self._alias:
            if entries:
                return _default(entries)
        else:
            for entry in entries:
                if entry.name == name:
                    return entry
            for entry in entries:
                if name in entry.aliases:
                    return entry
            wanted = loose(name)
            alike = [e for e in entries if wanted in {loose(n) for n in (e.name, *e.aliases)}]
            if len(alike) == 1:
                return alike[0]
        names = [entry.name for entry in entries]
        aliases = [other for entry in entries for other in entry.aliases]
        raise ModelNotFoundError(name or "", names, closest(name or "", [*names, *aliases]))

    def _named(self) -> list[ModelEntry]:
        names = {entry.name for entry in self._registered}
        files = {_file(entry.path) for entry in self._registered}
        last = []
        if self._builtin is not None and _file(self._builtin.path) not in files:
            name = free_name(self._builtin.name, names, "builtin")
            last.append(msgspec.structs.replace(self._builtin, name=name))
            files.add(_file(self._builtin.path))
        scan = self._scan
        models = [model for model in scan.models if model.file not in files]
        named = name_all(models, names, self._names)
        self._names = {(model.path, model.stem): name for name, model in named}
        self._owners.keep(self._names)
        projectors = belonging(scan.models, scan.projectors)
        discovered = []
        for title, model in named:
            aliases = [alias for alias in dict.fromkeys(model.aliases) if alias not in names]
            names.update(aliases)  # the first that has an alias keeps it
            discovered.append(
                entry_of(
                    model,
                    title,
                    "discovered",
                    aliases=aliases,
                    adapters=scan.adapters,
                    projector=projectors.get(model.path),
                )
            )
        return [*self._registered, *discovered, *last]


def _default(entries: list[ModelEntry]) -> ModelEntry:
    """Return what somebody named, or else the first that can hold a conversation."""
    if entries[0].source == "registered":
        return entries[0]
    return next((entry for entry in entries if entry.kind == "llm"), entries[0])


def register(path: Path, *, name: str | None = None, index: Index | None = None) -> ModelEntry:
    """Return the entry of a file that was named outright, called `name` or after the file.

    A projector that lies beside it is its own. `index` spares reading what it knows.

    Raises:
        ConfigError: it is not a GGUF file that can be read.
    """
    path = path.expanduser().absolute()
    model_path = "--model-path"
    try:
        model = examine(path)
    except OSError as error:
        raise ConfigError(
            f"model file {path} cannot be read: {error.strerror or error}; check the path",
            param=model_path,
        ) from error
    except GgufError as error:
        raise ConfigError(f"{path}: {error.message}; {error.remedy}", param=model_path) from error
    around = beside(path, index or Index.standard())
    projectors = belonging(around.models, around.projectors)
    entry = entry_of(model, name or model.stem, "registered", projector=projectors.get(model.path))
    if reason := _NO_MODELS.get(entry.kind):
        entry = msgspec.structs.replace(entry, objection=reason)
    builtin = demo_entry()
    same = builtin is not None and _file(builtin.path) == model.file
    return msgspec.structs.replace(entry, note=builtin.note) if builtin and same else entry


def _with_lora(entry: ModelEntry) -> ModelEntry:
    """Return an entry with the adapter that SHIMMY_LORA_GGUF names."""
    if not LORA_GGUF.get():
        return entry
    path = Path(LORA_GGUF.get()).expanduser().absolute()
    if found := flaw(path):
        raise ConfigError(f"{LORA_GGUF.name}: {found}", param=LORA_GGUF.name)
    return msgspec.structs.replace(entry, lora=((str(path), 1.0),))


def _is_file(path: Path) -> bool:
    """Whether there is such a file; one that may not be looked at is, for reading it says why."""
    try:
        return path.is_file()
    except OSError:
        return True


def _file(path: str) -> tuple[int, int] | None:
    """Return what tells a file from every other, whatever leads to it; None if it is gone."""
    try:
        return file_of(Path(path).stat())
    except OSError:
        return None
