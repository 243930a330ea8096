"""The sampler of a row: llama.cpp's `common_sampler`, built from JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shimmy.llama._ffi import CData, ffi, lib, log_mark, raise_fault
from shimmy.llama.handle import Handle

if TYPE_CHECKING:
    from shimmy.llama.grammar import Grammar
    from shimmy.llama.model import Model


class RowSampler(Handle):
    """A sampler that a row will own. Thread: one at a time; any may make it."""

    def __init__(
        self, model: Model, fields: bytes, *, n_ctx: int, grammar: Grammar | None = None
    ) -> None:
        """`fields` is JSON: what is absent is the model's advice, else llama.cpp's default.

        `n_ctx` stands for a penalty window of -1. A `grammar` stands for one in the fields.

        Raises:
            InvalidRequestError: a token outside of the vocabulary, an unusable grammar setup.
            LlamaError: a grammar that does not parse; the message has llama.cpp's own lines.
        """
        mark = log_mark()
        known = ffi.NULL if grammar is None else grammar.ptr
        ptr = lib.shm_sampler_new(model.ptr, model.ends, n_ctx, fields, len(fields), known)
        if ptr == ffi.NULL:
            raise_fault("making the sampler", mark=mark)
        super().__init__(ptr, lib.shm_sampler_free, model)

    @property
    def seed(self) -> int:
        """The seed in use; drawn at random when none was given."""
        return int(lib.shm_sampler_seed(self.ptr))

    def release(self) -> CData:
        """Give the native sampler to the row that is being opened; this handle is closed."""
        return self._release()
