"""The folders in which people and programs keep models, on each system.

Pure: everything about the machine comes in as arguments.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePath, PurePosixPath, PureWindowsPath

_WINDOWS_DRIVES = "CDEF"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What decides where models lie. `platform` is `sys.platform`; both folders are absolute."""

    platform: str
    environ: Mapping[str, str]
    home: str
    cwd: str

    def path(self, text: str) -> PurePath:
        """Return a path of this system: `~` is the home, relative is to the working folder."""
        flavour = PureWindowsPath if self.platform == "win32" else PurePosixPath
        head, *rest = flavour(text).parts or (".",)
        path = flavour(self.home, *rest) if head == "~" else flavour(text)
        return flavour(self.cwd, path)

    def variable(self, name: str) -> PurePath | None:
        """Return the folder that a variable names; None where it is unset or empty."""
        text = self.environ.get(name, "").strip()
        return self.path(text) if text else None


def split_paths(text: str, platform: str) -> list[str]:
    """Split a list of folders: `;` on every system, and the system's own separator."""
    separators = r"[;]" if platform == "win32" else r"[;:]"
    return [part.strip() for part in re.split(separators, text) if part.strip()]


def places(machine: Machine, *, base_gguf: str, listed: str) -> list[PurePath]:
    """Return all folders in the order in which they are searched.

    The user's own come first: what is named, then shimmy's, then what other programs keep.
    """
    found: list[PurePath | None] = [machine.path("models")]
    if base_gguf:
        found.append(machine.path(base_gguf).parent)
    found += listed_folders(machine, listed)
    for home in _homes(machine):
        found += _kept_in(replace(machine, home=home))
    if machine.platform == "win32":
        found += [PureWindowsPath(f"{drive}:/models") for drive in _WINDOWS_DRIVES]
    return list(dict.fromkeys(path for path in found if path is not None))


def listed_folders(machine: Machine, listed: str) -> list[PurePath]:
    """Return the folders that somebody named in one text."""
    return [machine.path(part) for part in split_paths(listed, machine.platform)]


def _homes(machine: Machine) -> list[str]:
    """Return the user's home; on Windows that of Unix shells too, where it is another."""
    unix = machine.environ.get("HOME", "").strip() if machine.platform == "win32" else ""
    return [machine.home, unix] if PureWindowsPath(unix).is_absolute() else [machine.home]


def _kept_in(machine: Machine) -> list[PurePath]:
    """Return where shimmy and other programs keep models of a user."""
    found = [machine.path("~/models"), data_folder(machine) / "models"]
    # where the Rust shimmy looked on every system
    found.append(machine.path("~/.local/share/shimmy/models"))
    found += hubs(machine)
    found += ollama_stores(machine)
    found += lm_studio_folders(machine)
    found += llama_cpp_caches(machine)
    if machine.platform == "win32":
        found.append(machine.path("~/Downloads"))
    return found


def data_folder(machine: Machine) -> PurePath:
    """Return where this user's data of shimmy lies."""
    if machine.platform == "win32":
        return _local(machine) / "shimmy"
    if machine.platform == "darwin":
        return machine.path("~/Library/Application Support/shimmy")
    return (machine.variable("XDG_DATA_HOME") or machine.path("~/.local/share")) / "shimmy"


def hubs(machine: Machine) -> list[PurePath]:
    """Return Hugging Face's caches: the one that its variables name, and its default."""
    cache = machine.variable("XDG_CACHE_HOME") or machine.path("~/.cache")
    home = machine.variable("HF_HOME")
    named = [
        machine.variable("HF_HUB_CACHE"),
        machine.variable("HUGGINGFACE_HUB_CACHE"),
        home / "hub" if home else None,
    ]
    return [path for path in named if path] + [cache / "huggingface" / "hub"]


def ollama_stores(machine: Machine) -> list[PurePath]:
    """Return Ollama's stores: the named one, the user's, the system service's."""
    named = machine.variable("OLLAMA_MODELS")
    stores = [named] if named else []
    stores.append(machine.path("~/.ollama/models"))
    if machine.platform == "win32":
        stores.append(_local(machine) / "Ollama" / "models")
        stores += [PureWindowsPath(f"{drive}:/Ollama/models") for drive in _WINDOWS_DRIVES]
        if user := machine.environ.get("USERNAME", "").strip():
            of_user = f"Users/{user}/AppData/Local/Ollama/models"
            stores += [PureWindowsPath(f"{drive}:/{of_user}") for drive in _WINDOWS_DRIVES]
    elif machine.platform == "linux":
        # the second is the store itself (Arch), or has it in it (as `models`, or as in a home)
        system = ("/usr/share/ollama/.ollama/models", "/var/lib/ollama")
        stores += [machine.path(path) for path in system]
    return stores


def lm_studio_folders(machine: Machine) -> list[PurePath]:
    """Return LM Studio's folders, the newer first."""
    folders = [machine.path("~/.lmstudio/models"), machine.path("~/.cache/lm-studio/models")]
    if machine.platform == "win32":
        folders.append(_roaming(machine) / "LM Studio" / "models")
    return folders


def llama_cpp_caches(machine: Machine) -> list[PurePath]:
    """Return the folder into which llama.cpp downloads."""
    named = machine.variable("LLAMA_CACHE")
    if machine.platform == "win32":
        default = _local(machine) / "llama.cpp"
    elif machine.platform == "darwin":
        default = machine.path("~/Library/Caches/llama.cpp")
    else:
        cache = machine.variable("XDG_CACHE_HOME") or machine.path("~/.cache")
        default = cache / "llama.cpp"
    return [named, default] if named else [default]


def _local(machine: Machine) -> PurePath:
    return machine.variable("LOCALAPPDATA") or machine.path("~/AppData/Local")


def _roaming(machine: Machine) -> PurePath:
    return machine.variable("APPDATA") or machine.path("~/AppData/Roaming")
