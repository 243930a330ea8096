"""The LoRA adapters of a loaded model: which there are, which a request uses, and switching them."""

from __future__ import annotations

from hashlib import file_digest
from typing import TYPE_CHECKING

import msgspec

from shimmy.engine.types.lora import LoraInfo
from shimmy.errors import InvalidRequestError, LlamaError, ModelLoadError
from shimmy.llama.lora import Lora
from shimmy.worker.lora_set import NO_LORAS, LoraSet, lora_set

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shimmy.llama.context import Context
    from shimmy.llama.model import Model

_PAIRS = msgspec.json.Decoder(list[tuple[str, float]])


class Adapters:
    """The adapters of one model, in the order of the options, and the default scales.

    Thread: any, but `use`, which is the context's owner's.
    """

    def __init__(self, loras: Sequence[Lora] = (), scales: Sequence[float] = ()) -> None:
        """`scales` are the defaults at first; the adapters are freed with their model."""
        self._loras = tuple(loras)
        self._scales = tuple(scales)
        self._digests: dict[int, str] = {}

    @classmethod
    def load(cls, model: Model, given: Sequence[tuple[str, float]]) -> Adapters:
        """Load (path, scale) pairs; raises `ModelLoadError` with llama.cpp's reason."""
        loras = [Lora(model, path) for path, _ in given]
        for lora in loras:
            if lora.invocation_tokens:
                raise ModelLoadError(
                    f"could not use the adapter {lora.path}: it is an activated LoRA (aLoRA), which "
                    "works from certain tokens on only, and that is not supported: leave it out"
                )
        return cls(loras, [scale for _, scale in given])

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._loras)

    def infos(self) -> list[LoraInfo]:
        """Return all adapters with their default scales."""
        scales = self._scales
        return [
            LoraInfo(id=i, path=str(lora.path), scale=scales[i])
            for i, lora in enumerate(self._loras)
        ]

    @property
    def defaults(self) -> LoraSet:
        """What a request gets that names no adapters."""
        return lora_set(enumerate(self._scales))

    def set_defaults(self, scales: Mapping[int, float]) -> None:
        """Replace the default scales, for requests that come later; those not named get 0.

        Raises:
            InvalidRequestError: there is no adapter of that number.
        """
        self._check(scales)
        self._scales = tuple(float(scales.get(i, 0.0)) for i in range(len(self._loras)))

    def chosen(self, scales: Mapping[int, float] | None) -> LoraSet:
        """Return the set that a request asks for; None: the defaults.

        Raises:
            InvalidRequestError: there is no adapter of that number.
        """
        if scales is None:
            return self.defaults
        self._check(scales)
        return lora_set(scales.items())

    def use(self, context: Context, loras: LoraSet) -> None:
        """Let `context` compute with exactly these from now on."""
        context.set_loras({self._loras[i]: scale for i, scale in loras})

    def mark(self, loras: LoraSet) -> bytes:
        """Return what goes with a saved session, so that it is restored to the same adapters only."""
        if not loras:
            return b""
        return msgspec.json.encode([(self._digest(i), scale) for i, scale in loras])

    def unmark(self, mark: bytes) -> LoraSet:
        """Return the adapters of a mark.

        Raises:
            LlamaError: the mark is damaged, or the model has other adapters now.
        """
        if not mark:
            return NO_LORAS
        known = {self._digest(i): i for i in range(len(self._loras))}
        try:
            pairs = [(known[digest], scale) for digest, scale in _PAIRS.decode(mark)]
        except (KeyError, msgspec.MsgspecError):
            raise LlamaError("it was made with LoRA adapters that are not loaded") from None
        return lora_set(pairs)

    def _check(self, scales: Mapping[int, float]) -> None:
        for i in scales:
            if not 0 <= i < len(self._loras):
                there = f"they are 0 to {len(self._loras) - 1}" if self._loras else "it has none"
                raise InvalidRequestError(
                    f"lora: the model has no adapter {i}: {there}; load them with --lora",
                    param="lora",
                )

    def _digest(self, i: int) -> str:
        """What an adapter is known by wherever its file lies; the same file twice is as good."""
        if i not in self._digests:
            path = self._loras[i].path
            try:
                with path.open("rb") as file:
                    self._digests[i] = file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise LlamaError(
                    f"the adapter {path.name} cannot be read any more: {error.strerror}"
                ) from error
        return self._digests[i]
