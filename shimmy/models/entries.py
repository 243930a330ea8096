"""Makes an entry of a model that was found: its facts, and what lies beside it that belongs to it."""

from __future__ import annotations

from collections.abc import Iterable

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
    projector: FoundPart | None = None,
) -> ModelEntry:
    """Return the entry of `model`, with those of `adapters` that are made for it.

    `projector` lies beside it; one that its store keeps with it comes first.
    """
    facts, extras = model.facts, model.extras
    projector = model.projector or projector
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
        n_embd=facts.n_embd,
        n_expert=facts.n_expert,
        n_shards=model.n_shards,
        has_template=facts.has_template,
        adapters=tuple(
            Adapter(name=adapter.stem, path=adapter.path)
            for adapter in adapters
            if fits(adapter.facts, facts)
        ),
        lora=tuple((path, 1.0) for path in extras.lora),
        projector=projector.path if projector else None,
        senses=projector.facts.senses if projector else (),
        projector_objection=_objection(projector, model) if projector else None,
        # the model's own is what its makers tested, tools and all
        chat_template=jinja_of(template) if template and not facts.has_template else None,
        system=extras.system,
        parameters=extras.parameters,
        objection=facts.objection,
    )


def _objection(projector: FoundPart, model: FoundModel) -> str | None:
    """Return why a model goes without its projector."""
    facts, n_embd = projector.facts, model.facts.n_embd
    if facts.objection is None and None not in {facts.n_embd, n_embd} and facts.n_embd != n_embd:
        return f"it is made for a model that is {facts.n_embd} wide, and this one is {n_embd}"
    return facts.objection
