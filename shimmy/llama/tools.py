"""Tools that several conversations offer."""

from __future__ import annotations

from shimmy.llama._ffi import ffi, lib, raise_fault


class Tools:
    """Tools in OpenAI's form, read once. Immutable: any thread; freed with its last reference."""

    def __init__(self, tools: bytes) -> None:
        """`tools` is a JSON list."""
        ptr = lib.shm_tools_new(tools, len(tools))
        if ptr == ffi.NULL:
            raise_fault("reading the tools")
        self.ptr = ffi.gc(ptr, lib.shm_tools_free)
