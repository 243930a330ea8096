"""Which of the models that are here answers first, while a better one is looked for."""

from __future__ import annotations

from collections.abc import Sequence

from shimmy.models.catalogue.recommend import RESERVE
from shimmy.models.entry import ModelEntry


def starter(entries: Sequence[ModelEntry], ram: int) -> ModelEntry | None:
    """Return the model to begin with: one that was named, else the largest that `ram` bytes hold.

    The built-in demo model is for machines that have no other.
    """
    if entries and entries[0].source == "registered":
        return entries[0]
    fitting = [
        entry
        for entry in entries
        if entry.kind == "llm" and entry.objection is None and entry.weights() + RESERVE <= ram
    ]
    own = [entry for entry in fitting if entry.source != "builtin"]
    return max(own or fitting, key=lambda entry: entry.n_params, default=None)
