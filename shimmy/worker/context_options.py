"""From options to the parameters of a context, and what follows from them for its rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shimmy.engine.types.options import MAX_PARALLEL, EngineOptions
from shimmy.errors import ConfigError, InvalidRequestError
from shimmy.llama import log
from shimmy.llama.context import Context
from shimmy.llama.context_params import ContextParams, FlashAttn, RopeScaling
from shimmy.llama.window import Window, window_of
from shimmy.machine.memory import main_memory
from shimmy.worker.choice import choice
from shimmy.worker.cores import n_threads
from shimmy.worker.portions import SCORED_BITE
from shimmy.worker.prefix import MAX_SEQUENCES, PrefixIndex, Sharing

if TYPE_CHECKING:
    from shimmy.llama.model import Model
    from shimmy.worker.prefix import Reach

DEFAULT_N_CTX = 8192
DEFAULT_N_PARALLEL = 8
MAX_CACHE_RAM = 8192
"""MiB of the host cache by default, where the machine has four times as much to spare."""

_MIB = 1 << 20

# ContextParams' names, where a flag's is another
_FLAGS = {
    "type_k": "--cache-type-k",
    "type_v": "--cache-type-v",
    "n_threads": "--threads",
    "n_threads_batch": "--threads-batch",
    "n_ctx": "--ctx-size",
    "n_batch": "--batch-size",
    "n_ubatch": "--ubatch-size",
    "rope_freq_base": "--rope-freq-base",
    "rope_freq_scale": "--rope-freq-scale",
    "yarn_ext_factor": "--yarn-ext-factor",
    "yarn_attn_factor": "--yarn-attn-factor",
    "yarn_beta_fast": "--yarn-beta-fast",
    "yarn_beta_slow": "--yarn-beta-slow",
    "yarn_orig_ctx": "--yarn-orig-ctx",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How rows share a context: `n_ctx_row` is the most tokens of one, `n_cells` what all have.

    Without `n_cells` each row has its own. With `scratch`, sequence 0 is kept for moving cells.
    `window` is that of layers that see one only, whatever they keep.
    """

    sharing: Sharing
    n_ctx_row: int
    n_cells: int | None
    scratch: bool
    n_slots: int
    window: Window | None = None

    def index(self, reach: Reach | None = None) -> PrefixIndex:
        """Return an index for this layout."""
        n_seq = MAX_SEQUENCES if self.sharing is Sharing.CELLS else self.n_slots
        return PrefixIndex(n_seq, first=int(self.scratch), sharing=self.sharing, reach=reach)


def make_context(model: Model, options: EngineOptions) -> Context:
    """Make the context that the options describe.

    Raises:
        ConfigError: an option cannot be, or not with another; it names the flag.
        LlamaError: llama.cpp refuses; its own last lines are in the message.
    """
    _check(model, options)
    try:
        context = _context(model, options)
    except InvalidRequestError as error:
        flag = _FLAGS.get(error.param or "", error.param)
        raise ConfigError(f"{flag}: {error.message}", param=flag) from error
    if options.context_shift and not (context.memory.can_shift and _cuttable(model)):
        context.close()
        windowed = options.swa_full is False and model.n_swa > 0
        raise ConfigError(
            "--context-shift: the memory of this model cannot be shifted; leave "
            + ("out --no-swa-full" if windowed else "the flag out"),
            param="--context-shift",
        )
    return context


def swa_full(model: Model, options: EngineOptions) -> bool:
    """Whether the layers of a sliding window keep all of a sequence, as the others do.

    If nobody says, they do where they would need more than half of those cells anyway.
    """
    if options.swa_full is not None:
        return options.swa_full
    if model.n_swa == 0 or options.context_shift or not _cuttable(model):
        return True
    n_ctx = options.n_ctx or default_n_ctx(model, options)
    n_parallel = options.n_parallel or DEFAULT_N_PARALLEL
    if not options.kv_unified:
        n_ctx, n_parallel = n_ctx // n_parallel, 1
    return 2 * (model.n_swa * n_parallel + options.n_ubatch) > n_ctx


def layout(model: Model, context: Context, options: EngineOptions) -> Layout:
    """Return how rows share `context`."""
    n_slots = context.n_seq_max
    limit = context.n_ctx_seq
    # who stretches the positions wants to go beyond what the model was trained for
    if model.n_ctx_train and not _stretches(options):
        limit = min(limit, model.n_ctx_train)
    if options.context_shift:
        # rows that never end by themselves: together they must leave every slot its part
        limit = min(limit, context.n_ctx // n_slots)
    if not _cuttable(model):
        sharing = Sharing.WHOLE
    elif options.kv_unified:
        sharing = Sharing.CELLS
    else:
        sharing = Sharing.CUT
    return Layout(
        sharing=sharing,
        n_ctx_row=limit,
        n_cells=context.n_ctx if options.kv_unified else None,
        scratch=sharing is Sharing.CELLS and n_slots < MAX_SEQUENCES,
        n_slots=n_slots,
        window=window_of(context),
    )


def cache_bytes(options: EngineOptions) -> int:
    """Return the size of the host cache: by default a quarter of the free memory, within bounds."""
    if options.cache_ram is not None:
        return options.cache_ram * _MIB
    return min(MAX_CACHE_RAM * _MIB, main_memory().free // 4)


def default_n_ctx(model: Model, options: EngineOptions) -> int:
    """Return the cells of a context that nobody gave a size: the training context for each slot, bounded."""
    n_parallel = options.n_parallel or DEFAULT_N_PARALLEL
    return min(model.n_ctx_train * n_parallel, DEFAULT_N_CTX)


def _context(model: Model, options: EngineOptions) -> Context:
    full = swa_full(model, options)
    context = Context(model, _params(model, options, full=full))
    if full or not _cuttable(model) or model.n_swa == 0 or window_of(context) is not None:
        return context
    context.close()
    if options.swa_full is False:
        log.write(
            log.LogLevel.WARN,
            "--no-swa-full: this model's memory has other parts too, from which its windows cannot "
            "be moved apart; all is kept",
        )
    return Context(model, _params(model, options, full=True))


def _params(model: Model, options: EngineOptions, *, full: bool) -> ContextParams:
    n_parallel = options.n_parallel or DEFAULT_N_PARALLEL
    threads = n_threads(options)
    return ContextParams(
        n_ctx=options.n_ctx or default_n_ctx(model, options),
        n_batch=max(options.n_batch, n_parallel),
        n_ubatch=options.n_ubatch,
        n_seq_max=n_parallel,
        # a row asks for one token's logits at a time, but for those of a prompt that is scored
        n_outputs_max=n_parallel + SCORED_BITE,
        n_threads=threads,
        offload_kqv=options.offload_kqv,
        op_offload=options.op_offload,
        # a step with several rows counts as a batch to llama.cpp
        n_threads_batch=options.n_threads_batch or threads,
        flash_attn_type=choice(FlashAttn, options.flash_attn, "--flash-attn"),
        type_k=options.cache_type_k,
        type_v=options.cache_type_v,
        kv_unified=options.kv_unified,
        swa_full=full,
        rope_scaling_type=choice(RopeScaling, options.rope_scaling, "--rope-scaling"),
        rope_freq_base=options.rope_freq_base,
        rope_freq_scale=options.rope_freq_scale,
        yarn_orig_ctx=options.yarn_orig_ctx,
        yarn_ext_factor=options.yarn_ext_factor,
        yarn_attn_factor=options.yarn_attn_factor,
        yarn_beta_fast=options.yarn_beta_fast,
        yarn_beta_slow=options.yarn_beta_slow,
    )


def _check(model: Model, options: EngineOptions) -> None:
    n_parallel = options.n_parallel or DEFAULT_N_PARALLEL
    if n_parallel > MAX_PARALLEL:
        raise ConfigError(
            f"-np/--parallel may be up to {MAX_PARALLEL}, got {n_parallel}", param="--parallel"
        )
    value = options.cache_type_v
    if value not in (None, "f32", "f16", "bf16") and options.flash_attn == FlashAttn.OFF:
        raise ConfigError(
            f"--cache-type-v {value} needs flash attention: leave out -fa off, or take f16",
            param="--cache-type-v",
        )
    if not _cuttable(model) and not options.kv_unified:
        # each sequence has one state anyway
        raise ConfigError(
            "--no-kv-unified: this model's memory is recurrent, which has no KV cells to divide",
            param="--kv-unified",
        )


def _cuttable(model: Model) -> bool:
    """Whether a sequence can be cut at a prefix's end: a recurrent state is one for all of it."""
    return not (model.is_recurrent or model.is_hybrid)


def _stretches(options: EngineOptions) -> bool:
    given = (options.rope_scaling, options.rope_freq_base, options.rope_freq_scale)
    return any(value is not None for value in given) and options.rope_scaling != RopeScaling.NONE
