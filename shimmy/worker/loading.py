"""From options to a model and a context that are ready to run."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from shimmy.engine.types.info import ModelInfo
from shimmy.engine.types.options import EngineOptions
from shimmy.llama import backend, log
from shimmy.llama.batch import Batch
from shimmy.llama.chat import ChatTemplate
from shimmy.llama.context import Context
from shimmy.llama.load_control import LoadControl
from shimmy.llama.model import Model
from shimmy.worker import placed
from shimmy.worker.adapters import Adapters
from shimmy.worker.advice import with_advice
from shimmy.worker.context_options import Layout, layout, make_context
from shimmy.worker.cores import n_threads
from shimmy.worker.embedding import embedding_params, kind_of
from shimmy.worker.infill import has_fim
from shimmy.worker.model_options import model_params
from shimmy.worker.placement import Placement, choose, possible
from shimmy.worker.planning import fitted
from shimmy.worker.projector import load_projector
from shimmy.worker.template import template_source

if TYPE_CHECKING:
    from collections.abc import Callable

    from shimmy.llama.context_params import ContextParams
    from shimmy.llama.projector import Projector


class LoadTicket:
    """Lets another thread give a load up, before or after it began."""

    def __init__(self) -> None:
        """The native control is made with the load: this thread may not open the libraries."""
        self._control: LoadControl | None = None
        self._cancelled = False

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled

    def cancel(self) -> None:
        """Give the load up. Thread: any."""
        self._cancelled = True
        if self._control is not None:
            self._control.cancel()

    def control(self) -> LoadControl:
        """Return the native control of the load that begins now."""
        self._control = LoadControl()
        if self._cancelled:
            self._control.cancel()
        return self._control


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A model, its context and template, and how rows share them.

    `token_bytes` is about what a token takes in the cells. The context of a model that generates
    nothing is one that embeds.
    """

    model: Model
    context: Context
    adapters: Adapters
    projector: Projector | None
    template: ChatTemplate
    info: ModelInfo
    layout: Layout
    token_bytes: int
    embedding_params: ContextParams

    @property
    def generates(self) -> bool:
        """Whether the model generates text."""
        return self.info.kind == "generative"

    def embedding_context(self) -> Context:
        """Make a context that embeds, which the caller closes."""
        return Context(self.model, self.embedding_params)

    def close(self) -> None:
        """Free everything; the model takes the others with it, in the right order."""
        self.model.close()

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


def load(options: EngineOptions, ticket: LoadTicket, progress: Callable[[float], None]) -> Loaded:
    """Load the model of `options` on this thread, which then owns the context.

    Raises:
        ModelLoadError: llama.cpp refused the file; its own last lines are in the message.
        LoadCancelledError: the ticket was cancelled.
        DoesNotFitError: there is no room for it; says what it takes, and which flags would help.
        ConfigError: an option cannot be; it names the flag.
    """
    started = time.monotonic()
    backend.init(retry=options.retry_backends)
    chosen = choose(options)
    options, notes = possible(options, chosen)
    options, changes = fitted(options, chosen, lambda: ticket.cancelled)
    notes += changes
    for note in notes:
        log.write(log.LogLevel.WARN, note)
    params = model_params(options, chosen)
    with with_advice(options, params):
        model = Model.load(options.model_path, params, progress=progress, control=ticket.control())
        try:
            return _with_context(model, options, chosen, notes, started)
        except BaseException:
            model.close()
            raise


def _with_context(
    model: Model, options: EngineOptions, chosen: Placement, notes: list[str], started: float
) -> Loaded:
    template = ChatTemplate(model, template_source(model, options.chat_template))
    kind = kind_of(model)
    embeds = embedding_params(model, options, n_threads=n_threads(options))
    context = make_context(model, options) if kind == "generative" else Context(model, embeds)
    token_bytes = _warm_up(model, context)
    adapters = Adapters.load(model, options.lora)
    projector, objection = load_projector(model, options, chosen)
    if objection is not None:
        notes = [*notes, objection]
        log.write(log.LogLevel.WARN, objection)
    rows = layout(model, context, options)
    where = placed.placements(model, context)
    for one in where:
        log.write(log.LogLevel.INFO, placed.line(one))
    about = template.info()
    n_ctx_row = rows.n_ctx_row if kind == "generative" else embeds.n_ctx or 0
    info = ModelInfo(
        path=os.fspath(options.model_path),
        name=model.meta("general.name") or Path(options.model_path).stem,
        description=model.desc,
        n_params=model.n_params,
        size=model.size,
        n_vocab=model.vocab.n_tokens,
        n_ctx_train=model.n_ctx_train,
        n_ctx=context.n_ctx,
        n_batch=context.n_batch,
        n_parallel=context.n_seq_max,
        n_threads=n_threads(options),
        n_gpu_layers=placed.offloaded(where),
        devices=list(chosen.devices) or ["CPU"],
        gpu_backend=chosen.backend,
        placement=where,
        notes=notes,
        has_chat_template=about.explicit,
        chat_template=about.source,
        chat_template_caps=about.caps,
        bos_token=_piece(model, model.vocab.bos),
        eos_token=_piece(model, model.vocab.eos),
        llama_cpp=backend.version(),
        load_ms=1e3 * (time.monotonic() - started),
        kind=kind,
        n_ctx_row=n_ctx_row,
        n_embd=model.n_embd_out,
        has_fim=has_fim(model.vocab),
        vision=projector is not None,
        metadata=model.metadata,
    )
    return Loaded(
        model=model,
        context=context,
        adapters=adapters,
        projector=projector,
        template=template,
        info=info,
        layout=rows,
        token_bytes=token_bytes,
        embedding_params=embeds,
    )


def _piece(model: Model, token: int | None) -> str:
    if token is None:
        return ""
    return model.vocab.token_to_piece(token, special=True).decode(errors="replace")


def _warm_up(model: Model, context: Context) -> int:
    """Run one token, so that the first request does not pay for page faults and graph building.

    Returns about how many bytes a token's cell takes.
    """
    token = next((t for t in (model.vocab.bos, model.vocab.eos) if t is not None), 0)
    context.decode(Batch.of([token]))
    context.synchronize()
    if not context.has_memory:
        return 0
    token_bytes = context.state.size(0)
    context.memory.clear()
    return token_bytes
