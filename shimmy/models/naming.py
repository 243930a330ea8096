"""Names for what was found: unique, the same from scan to scan, printable."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence

from shimmy.models.discovery import FoundModel

# More are no help.
MAX_CLOSEST = 3

# path and stem: one blob of Ollama's may be several models
Identity = tuple[str, str]


def name_all(
    found: Iterable[FoundModel], taken: set[str], before: Mapping[Identity, str]
) -> list[tuple[str, FoundModel]]:
    """Give every model a name that is not in `taken`, and put it there.

    A model keeps the name that it had (`before`). Of several with one stem the first gets
    it, the others their folder's name after an `@`, with as many folders as it takes.
    """
    models = list(found)
    kept: dict[Identity, str] = {}
    for model in models:
        name = before.get((model.path, model.stem))
        if name is not None and name not in taken:
            kept[model.path, model.stem] = name
            taken.add(name)
    return [
        (
            kept.get((model.path, model.stem))
            or free_name(printable(model.stem), taken, *model.folders),
            model,
        )
        for model in models
    ]


def free_name(stem: str, taken: set[str], *folders: str) -> str:
    """Take a name for `stem`: with as many of its folders, nearest first, as make it unique."""
    name = stem
    for depth in range(1, len(folders) + 1):
        if name not in taken:
            break
        name = printable(f"{stem}@{'-'.join(reversed(folders[:depth]))}")
    number = 2
    while name in taken:
        name = f"{stem}@{number}"
        number += 1
    taken.add(name)
    return name


def printable(text: str) -> str:
    """Return a name that a terminal, a log and JSON can show as it is."""
    return "".join(letter if letter.isprintable() else "_" for letter in text)


def loose(name: str) -> str:
    """Return what is left of a name without case, separators and the file's ending."""
    return name.lower().removesuffix(".gguf").replace("_", "-").replace(" ", "-")


def closest(name: str, names: Sequence[str]) -> list[str]:
    """Return the names that are most like one that does not exist, best first."""
    by_loose = {loose(known): known for known in reversed(names)}
    wanted = loose(name[:200])
    inside = [
        known for key, known in by_loose.items() if wanted and (wanted in key or key in wanted)
    ]
    alike = difflib.get_close_matches(wanted, by_loose, n=MAX_CLOSEST, cutoff=0.5)
    ranked = [*(by_loose[key] for key in alike), *sorted(inside, key=len)]
    return list(dict.fromkeys(ranked))[:MAX_CLOSEST]
