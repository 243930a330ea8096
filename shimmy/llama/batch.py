"""The input of one decode: tokens with their positions, sequences, and which of them shall output."""

from __future__ import annotations

from operator import index
from typing import TYPE_CHECKING, Self

from shimmy.errors import InvalidRequestError
from shimmy.llama import _checks
from shimmy.llama._ffi import CData, ffi

if TYPE_CHECKING:
    from collections.abc import Sequence


class Batch:
    """Arrays for up to `capacity` tokens, each in up to `n_seq_max` sequences; filled and reused.

    The memory is Python's: there is nothing to close. Thread: one at a time.
    """

    def __init__(self, capacity: int, *, n_seq_max: int = 1) -> None:
        self.capacity = _checks.integer("capacity", capacity, 1, _checks.INT32_MAX)
        self.n_seq_max = _checks.integer("n_seq_max", n_seq_max, 1, _checks.MAX_SEQ)
        self.n_tokens = 0
        self._token = ffi.new("llama_token[]", capacity)
        self._pos = ffi.new("llama_pos[]", capacity)
        self._n_seq_id = ffi.new("int32_t[]", capacity)
        # a row of n_seq_max for each token
        self._seq_id = ffi.new("llama_seq_id[]", capacity * n_seq_max)
        self._logits = ffi.new("int8_t[]", capacity)
        self._struct = self._point_at_arrays()

    @classmethod
    def of(
        cls, tokens: Sequence[int], *, seq_id: int = 0, pos: int = 0, all_logits: bool = False
    ) -> Self:
        """Return a batch of one sequence's tokens from `pos` on; the last one asks for logits."""
        batch = cls(max(len(tokens), 1))
        batch.extend(tokens, seq_id=seq_id, pos=pos, all_logits=all_logits)
        return batch

    def clear(self) -> None:
        """Empty the batch."""
        self.n_tokens = 0

    def add(
        self, token: int, pos: int, seq_ids: int | Sequence[int] = 0, *, logits: bool = False
    ) -> int:
        """Add one token and return its index, which is that of its logits."""
        sequences = [seq_ids] if isinstance(seq_ids, int) else list(seq_ids)
        self._room(1)
        if not 1 <= len(sequences) <= self.n_seq_max:
            raise InvalidRequestError(
                f"a token of this batch is in 1 to {self.n_seq_max} sequences, "
                f"not {len(sequences)}",
                param="seq_ids",
            )
        row = self.n_tokens
        self._token[row] = _checks.integer("token", token, 0, _checks.INT32_MAX)
        self._pos[row] = _checks.integer("pos", pos, 0, _checks.INT32_MAX)
        self._n_seq_id[row] = len(sequences)
        begin = row * self.n_seq_max
        self._seq_id[begin : begin + len(sequences)] = [
            _checks.sequence("seq_ids", one) for one in sequences
        ]
        self._logits[row] = logits
        self.n_tokens += 1
        return row

    def extend(
        self,
        tokens: Sequence[int],
        *,
        seq_id: int = 0,
        pos: int = 0,
        logits: bool = True,
        all_logits: bool = False,
    ) -> None:
        """Add tokens of one sequence at `pos` and on; `logits`: the last one asks for them."""
        n = len(tokens)
        self._room(n)
        if n == 0:
            return
        _checks.sequence("seq_id", seq_id)
        _checks.integer("pos", pos, 0, _checks.INT32_MAX - n)
        values = _int32("token", tokens)
        rows = slice(self.n_tokens, self.n_tokens + n)
        self._token[rows] = values
        self._pos[rows] = range(pos, pos + n)
        self._n_seq_id[rows] = [1] * n
        for row in range(self.n_tokens, self.n_tokens + n):
            self._seq_id[row * self.n_seq_max] = seq_id
        self._logits[rows] = [all_logits] * n
        self.n_tokens += n
        if logits:
            self._logits[self.n_tokens - 1] = 1

    @property
    def tokens(self) -> list[int]:
        """The tokens in the batch."""
        return list(self._token[0 : self.n_tokens])

    @property
    def n_outputs(self) -> int:
        """How many tokens ask for logits."""
        return sum(self._logits[0 : self.n_tokens])

    @property
    def ptr(self) -> CData:
        """The native batch, for this package only."""
        self._struct.n_tokens = self.n_tokens
        return self._struct

    def _room(self, n: int) -> None:
        if self.n_tokens + n > self.capacity:
            raise InvalidRequestError(
                f"the batch holds {self.capacity} tokens and has {self.n_tokens}: "
                f"{n} more do not fit",
                param="n_tokens",
            )

    def _point_at_arrays(self) -> CData:
        struct = ffi.new("struct llama_batch *")
        struct.token = self._token
        struct.pos = self._pos
        struct.n_seq_id = self._n_seq_id
        struct.logits = self._logits
        struct.embd = ffi.NULL
        # llama.cpp wants a pointer for each row
        self._rows = ffi.new(
            "llama_seq_id *[]", [self._seq_id + i * self.n_seq_max for i in range(self.capacity)]
        )
        struct.seq_id = self._rows
        return struct


def _int32(param: str, values: Sequence[int]) -> list[int]:
    """Return `values` as numbers for C, refusing what does not fit."""
    try:
        numbers = [index(value) for value in values if value is not True and value is not False]
    except TypeError:
        numbers = []
    if len(numbers) != len(values):
        raise InvalidRequestError(f"{param}s must be whole numbers in a row", param=param)
    if min(numbers) < 0 or max(numbers) > _checks.INT32_MAX:
        raise InvalidRequestError(f"a {param} is outside 0..{_checks.INT32_MAX}", param=param)
    return numbers
