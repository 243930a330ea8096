"""Embedding and reranking, beside the rows that generate: a bounded decode at a time.

Thread: the engine's, for everything here.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shimmy.engine.types.event import Failed
from shimmy.engine.types.frame import CallFailed, Embedded, Reranked
from shimmy.errors import LlamaError, ShimmyError
from shimmy.llama.batch import Batch
from shimmy.worker.lora_set import NO_LORAS, LoraSet

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from shimmy.engine.types.frame import Report
    from shimmy.llama.context import Context

OUTPUT_BYTES = 256 << 20
"""What the logits may take that llama.cpp holds for each token of a batch, wanted or not. A single
input may take more."""

BITE = 64
"""Tokens of a decode while rows generate, if the inputs are shorter: their pause is bounded so."""


@dataclass(slots=True)
class EmbedCall:
    """A call's inputs as tokens, and what has come of them; `ranks`: scores instead of vectors.

    They are computed with the adapters of `loras`.
    """

    id: int
    inputs: list[list[int]]
    ranks: bool = False
    loras: LoraSet = NO_LORAS
    results: list[NDArray[np.float32]] = field(default_factory=list)

    def answer(self) -> Embedded | Reranked:
        """Return the report that ends the call."""
        n_tokens = [len(tokens) for tokens in self.inputs]
        if self.ranks:
            return Reranked(self.id, [float(result[0]) for result in self.results], n_tokens)
        vectors = [_unit(vector).astype("<f4").tobytes() for vector in self.results]
        return Embedded(self.id, vectors, n_tokens)


@dataclass(slots=True)
class _Piece:
    """Tokens of one input in a batch, from `start` on; `ends` if they are its last."""

    call: EmbedCall
    index: int
    start: int
    stop: int

    @property
    def ends(self) -> bool:
        """Whether the input is through with it."""
        return self.stop == len(self.call.inputs[self.index])


class Embedder:
    """Answers calls in the order in which they came, many inputs at a time.

    The context is made with the first call. It is no one's but the embedder's, so that the rows'
    cells are left alone.
    """

    def __init__(
        self,
        make: Callable[[], Context],
        emit: Callable[[Report], None],
        *,
        splits: bool,
        use: Callable[[Context, LoraSet], None],
    ) -> None:
        """`make` makes the context, `use` sets its adapters; with `splits` inputs may be fed in bits."""
        self._make = make
        self._use = use
        self._loras = NO_LORAS
        self._emit = emit
        self._splits = splits
        self._context: Context | None = None
        self._calls: deque[EmbedCall] = deque()
        # How much of the first call's next input is in the cells.
        self._n_past = 0

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self._calls

    def add(self, call: EmbedCall) -> None:
        """Queue a call."""
        if call.inputs:
            self._calls.append(call)
        else:
            self._emit(call.answer())

    def cancel(self, call_id: int) -> None:
        """Forget a call; unknown ids are ignored."""
        if self._calls and self._calls[0].id == call_id:
            self._n_past = 0
        self._calls = deque(call for call in self._calls if call.id != call_id)

    def step(self, *, beside: bool) -> None:
        """Run one decode; `beside` rows that generate it is a small one."""
        try:
            context = self._context = self._context or self._make()
            self._run(context, beside=beside)
        except ShimmyError as error:
            # whatever broke: a new context is made for the calls that come
            self.shut()
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """End all calls with `error`."""
        failure = Failed.of(error)
        for call in self._calls:
            self._emit(CallFailed(call.id, failure))
        self._calls.clear()
        self._n_past = 0

    def shut(self) -> None:
        """Free the context."""
        if self._context is not None:
            self._context.close()
            self._context = None
            self._loras = NO_LORAS

    def _run(self, context: Context, *, beside: bool) -> None:
        pieces = self._take(context, beside=beside)
        if pieces[0].call.loras != self._loras:
            self._use(context, pieces[0].call.loras)
            self._loras = pieces[0].call.loras
        batch = Batch(context.n_batch)
        for seq_id, piece in enumerate(pieces):
            tokens = piece.call.inputs[piece.index][piece.start : piece.stop]
            batch.extend(tokens, seq_id=seq_id, pos=piece.start, all_logits=True)
        if context.has_memory and pieces[0].start == 0:
            context.memory.clear()
        status = context.decode(batch)
        if status.value != 0:
            raise LlamaError(f"llama.cpp could not embed: {status.name}")
        for seq_id, piece in enumerate(pieces):
            if piece.ends:
                piece.call.results.append(context.pooled_embeddings(seq_id))
        self._n_past = 0 if pieces[-1].ends else pieces[-1].stop
        while self._calls and len(self._calls[0].results) == len(self._calls[0].inputs):
            self._emit(self._calls.popleft().answer())

    def _take(self, context: Context, *, beside: bool) -> list[_Piece]:
        """Return what goes into the next batch: at least a bit of one input."""
        most = min(context.n_batch, max(OUTPUT_BYTES // (4 * context.n_vocab), BITE))
        budget = min(most, BITE) if beside else most
        pieces: list[_Piece] = []
        for call in self._calls:
            if call.loras != self._calls[0].loras:
                return pieces
            for index in range(len(call.results), len(call.inputs)):
                start = self._n_past if not pieces else 0
                n_left = len(call.inputs[index]) - start
                if n_left > budget and not pieces:
                    n_tokens = budget if self._splits else n_left
                    return [_Piece(call, index, start, start + n_tokens)]
                if n_left > budget or len(pieces) == context.n_seq_max:
                    return pieces
                pieces.append(_Piece(call, index, start, start + n_left))
                budget -= n_left
                if start:
                    return pieces  # its cells are in use: nothing can be put beside it
        return pieces


def _unit(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale a vector to length 1."""
    import numpy as np

    wide = vector.astype(np.float64)
    length = float(np.sqrt(np.dot(wide, wide)))
    if not np.isfinite(length):
        raise LlamaError("the model's embedding is not finite")
    return (wide / length if length > 0 else wide).astype(np.float32)
