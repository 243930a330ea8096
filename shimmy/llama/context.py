"""A context: one model's KV memory and compute buffers, and the decoding in them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from shimmy.errors import DecodeError, InvalidRequestError, LlamaError
from shimmy.llama import _checks
from shimmy.llama._ffi import (
    CData,
    check,
    errors_since,
    ffi,
    lib,
    log_mark,
    raise_fault,
    take_text,
)
from shimmy.llama.context_params import Attention, ContextParams, native_context_params
from shimmy.llama.handle import Handle
from shimmy.llama.memory import Memory
from shimmy.llama.state import State

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from shimmy.llama.batch import Batch
    from shimmy.llama.lora import Lora
    from shimmy.llama.model import Model


class DecodeStatus(Enum):
    """How a decode ended that did not fail."""

    OK = 0
    KV_FULL = 1
    """No cells for the batch; the memory is as before."""
    ABORTED = 2
    """`abort()` was called; the parts of the batch that were done stay in the memory."""


@dataclass(frozen=True, slots=True)
class BufferUse:
    """What one buffer type holds, in bytes."""

    buffer: str
    host: bool
    model: int
    context: int
    compute: int


@dataclass(frozen=True, slots=True)
class Perf:
    """llama.cpp's own counters (zero unless `no_perf=False`); times in milliseconds."""

    t_load_ms: float
    t_p_eval_ms: float
    t_eval_ms: float
    n_p_eval: int
    n_eval: int
    n_reused: int


class Context(Handle):
    """A context of `model`. Thread: one owner at a time; `abort()` from any."""

    def __init__(self, model: Model, params: ContextParams | None = None) -> None:
        """Make a context; raises `InvalidRequestError` or `LlamaError` with llama.cpp's reason."""
        self.model = model
        self.params = params or ContextParams()
        if model.params.vocab_only:
            raise InvalidRequestError(
                "a model loaded with vocab_only has no weights to run", param="vocab_only"
            )
        struct = native_context_params(self.params, model)
        # lives in the closure below, until after llama_free
        flag = ffi.gc(lib.shm_flag_new(), lib.shm_flag_free)
        mark = log_mark()
        ptr = lib.shm_context_new(model.ptr, struct, flag)
        if ptr == ffi.NULL:
            raise_fault("could not create a context", mark=mark)

        def free(ptr: CData, _flag: CData = flag) -> None:
            lib.llama_free(ptr)

        self._flag = flag
        self._broken: str | None = None
        self.n_vocab = model.vocab.n_tokens
        self._loras: dict[Lora, float] = {}
        self.n_ctx = int(lib.llama_n_ctx(ptr))
        self.n_ctx_seq = int(lib.llama_n_ctx_seq(ptr))
        self.n_batch = int(lib.llama_n_batch(ptr))
        self.n_ubatch = int(lib.llama_n_ubatch(ptr))
        self.n_seq_max = int(lib.llama_n_seq_max(ptr))
        self.n_rs_seq = int(lib.llama_n_rs_seq(ptr))
        self.kv_unified = bool(struct.kv_unified)
        self._causal = _is_causal(model, self.params)
        self.has_memory = lib.llama_get_memory(ptr) != ffi.NULL
        parents = [model] if self.params.ctx_other is None else [model, self.params.ctx_other]
        super().__init__(ptr, free, *parents)

    # Made anew each time: kept, they would form cycles that delay the finalizer.
    @property
    def memory(self) -> Memory:
        """The KV cells or recurrent states of the sequences."""
        return Memory(self)

    @property
    def state(self) -> State:
        """Saving and restoring of the memory."""
        return State(self)

    def decode(self, batch: Batch) -> DecodeStatus:
        """Run the batch through the model, adding its tokens to the memory.

        Raises `InvalidRequestError` for a batch that llama.cpp refuses, `DecodeError` or
        `NativeAbortError` when the evaluation failed: make a new context then.
        """
        # a model without memory is an encoder, to which llama.cpp passes the batch on
        self._check_batch(batch, one_pass=not self._causal or not self.has_memory)
        return self._evaluate(lib.shm_decode, batch)

    def encode(self, batch: Batch) -> DecodeStatus:
        """Run the batch through the encoder, without the memory; raises as `decode` does."""
        self._check_batch(batch, one_pass=True)
        return self._evaluate(lib.shm_encode, batch)

    def logits(self, index: int = -1, *, copy: bool = True) -> NDArray[np.float32]:
        """Return the logits at a batch index that asked for them; -1 is the last one.

        Without `copy` it is a view into the context, valid until the next decode or `close()`.
        """
        _checks.integer("index", index, -_checks.INT32_MAX, _checks.INT32_MAX)
        row = lib.llama_get_logits_ith(self.ptr, index)
        return _floats(row, self.n_vocab, "logits", index, copy=copy)

    def embeddings(self, index: int = -1, *, copy: bool = True) -> NDArray[np.float32]:
        """Return the embedding at a batch index; for contexts with `embeddings`, not pooled."""
        _checks.integer("index", index, -_checks.INT32_MAX, _checks.INT32_MAX)
        row = lib.llama_get_embeddings_ith(self.ptr, index)
        return _floats(row, self.model.n_embd_out, "embeddings", index, copy=copy)

    def pooled_embeddings(self, seq_id: int = 0, *, copy: bool = True) -> NDArray[np.float32]:
        """Return a sequence's pooled embedding, or its scores with rank pooling."""
        _checks.sequence("seq_id", seq_id)
        row = lib.llama_get_embeddings_seq(self.ptr, seq_id)
        ranks = lib.llama_pooling_type(self.ptr) == lib.LLAMA_POOLING_TYPE_RANK
        width = len(self.model.classifier_labels) if ranks else self.model.n_embd_out
        return _floats(row, width, "pooled embeddings", seq_id, copy=copy)

    def abort(self) -> None:
        """Stop the decode that runs now and those that follow. Any thread; CPU backend only."""
        lib.shm_flag_set(self._flag, True)

    def clear_abort(self) -> None:
        """Let decodes run again after `abort()`."""
        lib.shm_flag_set(self._flag, False)

    @property
    def aborted(self) -> bool:
        """Whether decodes are stopped by `abort()`."""
        return bool(lib.shm_flag_get(self._flag))

    def set_n_threads(self, n_threads: int, n_threads_batch: int | None = None) -> None:
        """Set the threads for one token, and for more than one (default: the same)."""
        _checks.integer("n_threads", n_threads, 1, 512)
        batch = n_threads if n_threads_batch is None else n_threads_batch
        _checks.integer("n_threads_batch", batch, 1, 512)
        lib.llama_set_n_threads(self.ptr, n_threads, batch)

    @property
    def n_threads(self) -> tuple[int, int]:
        """The threads for one token, and for more than one."""
        return int(lib.llama_n_threads(self.ptr)), int(lib.llama_n_threads_batch(self.ptr))

    def set_embeddings(self, value: bool) -> None:
        """Switch between logits and embeddings as output."""
        check(lib.shm_set_embeddings(self.ptr, value), "set_embeddings")

    def set_causal_attn(self, value: bool) -> None:
        """Switch causal attention; rebuilds the compute graph, which takes milliseconds."""
        check(lib.shm_set_causal_attn(self.ptr, value), "set_causal_attn")
        self._causal = value

    def set_loras(self, loras: Mapping[Lora, float]) -> None:
        """Use exactly these adapters with these scales, for the whole batch from now on."""
        for lora, scale in loras.items():
            _checks.real("scale", scale)
            if lora.model is not self.model:
                raise InvalidRequestError("the adapter belongs to another model", param="loras")
        pointers = [lora.ptr for lora in loras]
        code = lib.shm_set_loras(
            self.ptr,
            ffi.new("struct llama_adapter_lora *[]", pointers),
            len(pointers),
            ffi.new("float[]", list(loras.values())),
        )
        check(code, "could not set the adapters")
        self._loras = dict(loras)
        for lora in loras:
            lora.used_by(self)

    @property
    def loras(self) -> dict[Lora, float]:
        """The adapters in use with their scales."""
        return dict(self._loras)

    def synchronize(self) -> None:
        """Wait until the last decode's results are there."""
        lib.llama_synchronize(self.ptr)

    def memory_breakdown(self) -> tuple[BufferUse, ...]:
        """Return what lies in which buffer type."""
        listed = take_text(lib.shm_memory_breakdown(self.ptr), "memory breakdown")
        return tuple(BufferUse(**entry) for entry in json.loads(listed))

    def perf(self) -> Perf:
        """Return llama.cpp's counters since the start or `reset_perf()`."""
        data = lib.llama_perf_context(self.ptr)
        return Perf(
            t_load_ms=float(data.t_load_ms),
            t_p_eval_ms=float(data.t_p_eval_ms),
            t_eval_ms=float(data.t_eval_ms),
            n_p_eval=int(data.n_p_eval),
            n_eval=int(data.n_eval),
            n_reused=int(data.n_reused),
        )

    def reset_perf(self) -> None:
        """Set the counters to zero."""
        lib.llama_perf_context_reset(self.ptr)

    def _check_batch(self, batch: Batch, *, one_pass: bool) -> None:
        if self._broken is not None:
            raise DecodeError(f"this context failed before and must be made anew: {self._broken}")
        if self.model.params.no_alloc:
            raise InvalidRequestError("a model loaded with no_alloc has no weights", param="model")
        if not 1 <= batch.n_tokens <= self.n_batch:
            raise InvalidRequestError(
                f"a batch must have 1 to n_batch ({self.n_batch}) tokens, not {batch.n_tokens}",
                param="n_tokens",
            )
        if one_pass and batch.n_tokens > self.n_ubatch:
            raise InvalidRequestError(
                "in an encoder, or without causal attention, a batch has at most "
                f"n_ubatch ({self.n_ubatch}) tokens, not {batch.n_tokens}",
                param="n_tokens",
            )
        largest = max(batch.tokens)
        if largest >= self.n_vocab:
            raise InvalidRequestError(
                f"token {largest} is outside the vocabulary of {self.n_vocab}", param="token"
            )

    def _evaluate(self, evaluate: object, batch: Batch) -> DecodeStatus:
        mark = log_mark()
        code = evaluate(self.ptr, batch.ptr)  # type: ignore[operator]
        if code in (0, 1, 2):
            return DecodeStatus(code)
        if code == -1:
            reasons = errors_since(mark)
            raise InvalidRequestError(
                "\n  ".join(("llama.cpp refused the batch", *reasons)), param="batch"
            )
        try:
            if code == lib.SHM_FAULT:
                raise_fault("the decode failed", mark=mark)
            raise DecodeError(f"the decode failed with code {code}", log=errors_since(mark))
        except LlamaError as error:
            # what was in flight is lost, and a graph may be half built
            self._broken = error.message
            raise


def _is_causal(model: Model, params: ContextParams) -> bool:
    if params.attention_type is not None:
        return params.attention_type == Attention.CAUSAL
    return model.meta(f"{model.meta('general.architecture')}.attention.causal") != "false"


def _floats(row: CData, width: int, what: str, index: int, *, copy: bool) -> NDArray[np.float32]:
    if row == ffi.NULL:
        raise InvalidRequestError(
            f"the last batch has no {what} for {index}: it did not ask for them", param="index"
        )
    import numpy as np  # not needed to generate text

    view = np.frombuffer(ffi.buffer(row, width * 4), np.float32)
    return view.copy() if copy else view
