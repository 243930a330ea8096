"""Which of the projectors that lie around belongs to which model; knows files only by what was found.

A header says how wide the model must be, and not which one is meant: where several models of that
width share a folder, as in llama.cpp's cache, the names decide.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from shimmy.models.discovery import FoundModel, FoundPart, homes
from shimmy.models.hub.files import MMPROJ_TYPES, quant_of

_WORD = re.compile(r"[^a-z0-9.]+")
# what says nothing of the model
_NOISE = frozenset({"", "mmproj", "model", "gguf"})


def belonging(
    models: Sequence[FoundModel], projectors: Iterable[FoundPart]
) -> dict[str, FoundPart]:
    """Return the projector of each model that has one, by the model's path."""
    found: dict[str, tuple[tuple[bool, int, int], FoundPart]] = {}
    for projector in projectors:
        for model, score in _owners(projector, models):
            rank = ("vision" in projector.facts.senses, score, -_order(projector))
            if model.path not in found or rank > found[model.path][0]:
                found[model.path] = (rank, projector)
    return {path: projector for path, (_, projector) in found.items()}


def _owners(projector: FoundPart, models: Iterable[FoundModel]) -> list[tuple[FoundModel, int]]:
    """Return the models that a projector is for, and how many words of their names it shares."""
    folder = Path(projector.path).parent
    fitting = [
        (model, len(_words(projector.stem) & _words(model.stem)))
        for model in models
        if projector.facts.n_embd in {None, model.facts.n_embd}
        and folder in homes(Path(model.path))
    ]
    most = max((score for _, score in fitting), default=0)
    if most:
        return [(model, score) for model, score in fitting if score == most]
    shapes = {(m.facts.architecture, m.facts.n_embd, m.facts.n_layer) for m, _ in fitting}
    return fitting if len(shapes) == 1 else []


def _words(stem: str) -> set[str]:
    text = stem.upper().replace(quant_of(stem) or "\0", "").lower()
    return set(_WORD.split(text)) - _NOISE


def _order(projector: FoundPart) -> int:
    """Return how late a projector's type comes among those that are usual."""
    kind = projector.facts.quantisation
    return MMPROJ_TYPES.index(kind) if kind in MMPROJ_TYPES else len(MMPROJ_TYPES)
