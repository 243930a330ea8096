"""LoRA adapters."""

from __future__ import annotations

import os
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from shimmy.errors import ModelLoadError
from shimmy.llama import _checks
from shimmy.llama._ffi import ffi, lib, log_mark, raise_fault, sized_text
from shimmy.llama.handle import Handle

if TYPE_CHECKING:
    from shimmy.llama.context import Context
    from shimmy.llama.model import Model


class Lora(Handle):
    """An adapter of `model`, to be put to use with `Context.set_loras`. Thread: any to load."""

    def __init__(self, model: Model, path: str | os.PathLike[str]) -> None:
        """Load a GGUF adapter; raises `ModelLoadError` with llama.cpp's reason."""
        self.model = model
        self.path = Path(path)
        self._users: weakref.WeakSet[Context] = weakref.WeakSet()
        if not self.path.is_file():
            raise ModelLoadError(f"could not load the adapter {path}: there is no such file")
        mark = log_mark()
        ptr = lib.shm_lora_load(model.ptr, os.fsencode(path))
        if ptr == ffi.NULL:
            raise_fault(f"could not load the adapter {path}", mark=mark, error=ModelLoadError)
        super().__init__(ptr, lib.llama_adapter_lora_free, model)

    def close(self) -> None:
        """Free the adapter; contexts that use it go on without it."""
        for context in list(self._users):
            if not context.closed and self in context.loras:
                context.set_loras(
                    {lora: scale for lora, scale in context.loras.items() if lora is not self}
                )
        super().close()

    def used_by(self, context: Context) -> None:
        """Remember a context that would be left with a dangling pointer."""
        self._users.add(context)

    @property
    def metadata(self) -> dict[str, str]:
        """The GGUF's scalar metadata as text."""
        ptr, found = self.ptr, {}
        for i in range(lib.llama_adapter_meta_count(ptr)):
            key = sized_text(lib.llama_adapter_meta_key_by_index, ptr, i)
            value = sized_text(lib.llama_adapter_meta_val_str_by_index, ptr, i)
            if key is not None and value is not None:
                found[key] = value
        return found

    def meta(self, key: str) -> str | None:
        """Return one metadata value, None where the GGUF has none."""
        return sized_text(lib.llama_adapter_meta_val_str, self.ptr, _checks.nul_free("key", key))

    @property
    def invocation_tokens(self) -> tuple[int, ...]:
        """The tokens that switch an activated LoRA on; empty for others."""
        ptr = self.ptr
        n = lib.llama_adapter_get_alora_n_invocation_tokens(ptr)
        if n == 0:
            return ()
        return tuple(ffi.unpack(lib.llama_adapter_get_alora_invocation_tokens(ptr), n))
