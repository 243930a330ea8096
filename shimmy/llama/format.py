"""How answers to a conversation are constrained and parsed."""

from __future__ import annotations

from shimmy.llama._ffi import CData, ffi, lib
from shimmy.llama.grammar import Grammar


class Format:
    """What follows from a template with tools or a schema: a grammar, and a parser's rules.

    Thread: any. It is freed with its last reference, as a `Grammar` is.
    """

    def __init__(self, ptr: CData) -> None:
        """Take over the native reference."""
        self.ptr = ffi.gc(ptr, lib.shm_format_free)

    @property
    def grammar(self) -> Grammar | None:
        """The grammar of the answer, if it has one."""
        ptr = lib.shm_format_grammar(self.ptr)
        return None if ptr == ffi.NULL else Grammar(ptr)
