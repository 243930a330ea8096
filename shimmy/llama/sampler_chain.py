"""Samplers in a row, as one sampler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from shimmy.errors import InvalidRequestError
from shimmy.llama._ffi import CData, lib, text
from shimmy.llama.sampler import Sampler

if TYPE_CHECKING:
    from shimmy.llama.handle import Handle


class SamplerChain(Sampler):
    """Samplers that run one after another; the last one chooses. Owns them. Thread: one."""

    def __init__(self, ptr: CData = None, *parents: Handle) -> None:
        """Make an empty chain."""
        if ptr is None:
            ptr = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        super().__init__(ptr, *parents)

    @classmethod
    def of(cls, *samplers: Sampler) -> Self:
        """Return a chain of `samplers`, which it takes over."""
        chain = cls()
        for sampler in samplers:
            chain.add(sampler)
        return chain

    def add(self, sampler: Sampler) -> None:
        """Append a sampler; its handle is closed, its object lives on in the chain."""
        ptr = self.ptr
        if sampler is self:
            raise InvalidRequestError("a chain cannot contain itself", param="sampler")
        lib.llama_sampler_chain_add(ptr, sampler.give_to(self))

    def remove(self, index: int) -> Sampler:
        """Take a sampler out of the chain and return it as one of its own."""
        self._check_index(index)
        ptr = lib.llama_sampler_chain_remove(self.ptr, index)
        return Sampler(ptr, *self._native.parents)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the samplers, in order."""
        ptr = self.ptr
        return tuple(
            text(lib.llama_sampler_name(lib.llama_sampler_chain_get(ptr, i)))
            for i in range(len(self))
        )

    def __len__(self) -> int:
        return int(lib.llama_sampler_chain_n(self.ptr))

    def __bool__(self) -> bool:
        return True

    def _check_index(self, index: int) -> None:
        if not 0 <= index < len(self):
            raise InvalidRequestError(
                f"the chain has {len(self)} samplers, none at {index}", param="index"
            )
