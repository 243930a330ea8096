"""From options to a model and a context that are ready to run."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

import psutil

from shimmy.engine.types.info import ModelInfo
from shimmy.engine.types.options import MAX_PARALLEL, EngineOptions
from shimmy.errors import ConfigError
from shimmy.llama import backend
from shimmy.llama.batch import Batch
from shimmy.llama.chat import ChatTemplate
from shimmy.llama.context import Context
from shimmy.llama.context_params import ContextParams, FlashAttn
from shimmy.llama.load_control import LoadControl
from shimmy.llama.lora import Lora
from shimmy.llama.model import Model
from shimmy.llama.model_params import (
    LoadMode,
    ModelParams,
    SplitMode,
    TensorBuftOverride,
    cpu_moe,
    n_cpu_moe,
)
from shimmy.worker.placement import choose_devices

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

DEFAULT_N_CTX = 8192
DEFAULT_N_PARALLEL = 8
_MANY_CORES = 4

_Choice = TypeVar("_Choice", bound=StrEnum)


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
    """A model, its context and template; `n_ctx_row` is the most tokens one row may hold.

    `shares_prefixes`: sequences can begin with copies of others' cells, which cost nothing.
    """

    model: Model
    context: Context
    template: ChatTemplate
    info: ModelInfo
    n_ubatch: int
    n_ctx_row: int
    shares_prefixes: bool

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Free everything; the model takes the others with it, in the right order."""
        self.model.close()


def load(options: EngineOptions, ticket: LoadTicket, progress: Callable[[float], None]) -> Loaded:
    """Load the model of `options` on this thread, which then owns the context.

    Raises:
        ModelLoadError: llama.cpp refused the file; its own last lines are in the message.
        LoadCancelledError: the ticket was cancelled.
        ConfigError: an option cannot be; it names the flag.
    """
    started = time.monotonic()
    backend.init()
    params = _model_params(options)
    model = Model.load(options.model_path, params, progress=progress, control=ticket.control())
    try:
        return _with_context(model, options, params, started)
    except BaseException:
        model.close()
        raise


def _with_context(
    model: Model, options: EngineOptions, params: ModelParams, started: float
) -> Loaded:
    template = ChatTemplate(model, _template_source(options.chat_template))
    context = Context(model, _context_params(model, options))
    _warm_up(model, context)
    if options.lora:
        context.set_loras({Lora(model, path): scale for path, scale in options.lora})
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
        n_threads=_n_threads(options),
        n_gpu_layers=_n_offloaded(model, params),
        devices=list(params.devices or [device.name for device in backend.devices()]),
        has_chat_template=template.info().explicit,
        load_ms=1e3 * (time.monotonic() - started),
        metadata=model.metadata,
    )
    return Loaded(
        model=model,
        context=context,
        template=template,
        info=info,
        n_ubatch=context.n_ubatch,
        n_ctx_row=min(context.n_ctx_seq, model.n_ctx_train or context.n_ctx_seq),
        # a recurrent state is one for the whole sequence: it cannot be cut at a prefix's end
        shares_prefixes=not (model.is_recurrent or model.is_hybrid),
    )


def _warm_up(model: Model, context: Context) -> None:
    """Run one token, so that the first request does not pay for page faults and graph building."""
    token = next((t for t in (model.vocab.bos, model.vocab.eos) if t is not None), 0)
    context.decode(Batch.of([token]))
    context.synchronize()
    context.memory.clear()


def _model_params(options: EngineOptions) -> ModelParams:
    overrides = [
        TensorBuftOverride(pattern=pattern, buffer_type=buft)
        for pattern, buft in options.override_tensor
    ]
    if options.cpu_moe:
        overrides += cpu_moe()
    if options.n_cpu_moe is not None:
        overrides += n_cpu_moe(options.n_cpu_moe)
    devices = choose_devices(options)
    return ModelParams(
        devices=devices,
        tensor_buft_overrides=tuple(overrides),
        n_gpu_layers=0 if devices == [] else options.n_gpu_layers,
        split_mode=_choice(SplitMode, options.split_mode, "--split-mode"),
        load_mode=_choice(LoadMode, options.load_mode, "--load-mode"),
        main_gpu=options.main_gpu,
        tensor_split=options.tensor_split or None,
        check_tensors=options.check_tensors,
    )


def _context_params(model: Model, options: EngineOptions) -> ContextParams:
    n_parallel = options.n_parallel or DEFAULT_N_PARALLEL
    if n_parallel > MAX_PARALLEL:
        raise ConfigError(
            f"-np/--parallel may be up to {MAX_PARALLEL}, got {n_parallel}", param="--parallel"
        )
    n_ctx = options.n_ctx or min(model.n_ctx_train * n_parallel, DEFAULT_N_CTX)
    n_threads = _n_threads(options)
    return ContextParams(
        n_ctx=n_ctx,
        n_batch=max(options.n_batch, n_parallel),
        n_ubatch=options.n_ubatch,
        n_seq_max=n_parallel,
        # a row asks for one token's logits at a time
        n_outputs_max=n_parallel,
        n_threads=n_threads,
        # a step with several rows counts as a batch to llama.cpp
        n_threads_batch=n_threads,
        flash_attn_type=_choice(FlashAttn, options.flash_attn, "--flash-attn"),
        type_k=options.cache_type_k,
        type_v=options.cache_type_v,
        kv_unified=True,
    )


def _n_threads(options: EngineOptions) -> int:
    """One thread for each physical core; on a small machine for each core it may run on."""
    if options.n_threads is not None:
        return options.n_threads
    usable = len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity") else 0
    usable = usable or os.cpu_count() or 1
    if usable <= _MANY_CORES:
        return usable
    return min(psutil.cpu_count(logical=False) or usable, usable)


def _n_offloaded(model: Model, params: ModelParams) -> int:
    """How many layers llama.cpp was asked to put on devices other than the CPU."""
    on_gpu = [device for device in backend.devices() if device.type in ("gpu", "igpu")]
    if params.devices == [] or not on_gpu:
        return 0
    every = model.n_layer + 1  # the output counts as a layer
    wanted = params.n_gpu_layers
    return every if wanted is None or wanted < 0 else min(wanted, every)


def _template_source(given: str | None) -> str | None:
    """Return the template's text: `given` is a file, the name chatml, or Jinja itself."""
    if given is None or given == "chatml" or "{" in given:
        return given
    path = Path(given)
    if not path.is_file():
        raise ConfigError(
            f"--chat-template: {given!r} is no file; give a Jinja file, or chatml",
            param="--chat-template",
        )
    return path.read_text(encoding="utf-8")


def _choice(kind: type[_Choice], given: str | None, flag: str) -> _Choice | None:
    if given is None:
        return None
    try:
        return kind(given)
    except ValueError:
        known = ", ".join(kind)
        raise ConfigError(f"{flag}: {given!r} is not one of {known}", param=flag) from None
