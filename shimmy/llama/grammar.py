"""Grammars that several samplers need, one after the other."""

from __future__ import annotations

from shimmy.llama._ffi import CData, ffi, lib, raise_fault, take_text


class Grammar:
    """A grammar, or the schema that it is made from; what its first sampler makes of it is kept.

    Thread: any. It is freed with its last reference: who has that, nobody knows, and it needs
    nothing that could be gone by then.
    """

    def __init__(self, ptr: CData) -> None:
        """Take over the native reference."""
        self.ptr = ffi.gc(ptr, lib.shm_grammar_free)

    @classmethod
    def of(cls, source: bytes, *, is_schema: bool) -> Grammar:
        """Return the grammar of GBNF, or of a JSON schema. Whether it can be, its first use tells."""
        ptr = lib.shm_grammar_new(source, len(source), is_schema)
        if ptr == ffi.NULL:
            raise_fault("keeping the grammar")
        return cls(ptr)

    @property
    def text(self) -> str:
        """The grammar as GBNF; raises `LlamaError` for a schema that cannot be one."""
        return take_text(lib.shm_grammar_text(self.ptr), "reading the grammar")
