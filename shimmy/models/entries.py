"""Makes an entry of a model that was found: its facts, and what lies beside it that belongs to it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from shimmy.models.discovery import FoundModel, FoundPart
from shimmy.models.entry import Adapter, ModelEntry, Source
from shimmy.models.gguf.facts import fits
from shimmy.models.ollama_template import jinja_of


def entry_of(
    model: FoundModel,
    name: str,
    source: Source,
    *,
    aliases: Iterable[str] = (),
    adapters: Iterable[FoundPart] = (),
    projectors: Iterable[FoundPart] = (),
) -> ModelEntry:
    """Return the entry of `model`, with those of `adapters` and `projectors` that are made for it."""
    facts, extras = model.facts, model.extras
    template = extras.template
    return ModelEntry(
        name=name,
        path=model.path,
        size=model.size,
        source=source,
        modified=model.modified,
        architecture=facts.architecture,
        kind=facts.kind,
        aliases=tuple(aliases),
        store=model.store,
        size_label=facts.size_label,
        n_params=facts.n_params,
        quantisation=facts.quantisation,
        n_ctx_train=facts.n_ctx_train,
        n_expert=facts.n_expert,
        n_shards=model.n_shards,
        has_template=facts.has_template,
        adapters=tuple(
            Adapter(name=adapter.stem, path=adapter.path)
            for adapter in adapters
            if fits(adapter.facts, facts)
        ),
        lora=tuple((path, 1.0) for path in extras.lora),
        projector=extras.projector or _projector(model, projectors),
        # the model's own is what its makers tested, tools and all
        chat_template=jinja_of(template) if template and not facts.has_template else None,
        system=extras.system,
        parameters=extras.parameters,
        objection=facts.objection,
    )


def _projector(model: FoundModel, projectors: Iterable[FoundPart]) -> str | None:
    """Return the projector in the model's folder whose output is as wide as the model."""
    for projector in projectors:
        beside = Path(projector.path).parent == Path(model.path).parent
        if beside and projector.facts.n_embd in {None, model.facts.n_embd}:
            return projector.path
    return None
