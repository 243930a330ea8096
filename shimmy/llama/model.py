"""A loaded GGUF model: weights, vocabulary and metadata; immutable, shared by threads."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from shimmy.errors import InvalidRequestError, LoadCancelledError, ModelLoadError
from shimmy.llama import _checks, backend
from shimmy.llama._ffi import (
    CData,
    ffi,
    lib,
    log_mark,
    optional_text,
    raise_fault,
    sized_text,
    take_text,
    text,
)
from shimmy.llama.handle import Handle
from shimmy.llama.load_control import LoadControl, ProgressRelay
from shimmy.llama.model_params import ModelParams, NativeModelParams
from shimmy.llama.vocab import Vocab, end_tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True, slots=True)
class TensorPlace:
    """Where one tensor of a model lies: `buffer` is the name of its buffer, such as CPU_Mapped."""

    name: str
    type: str
    bytes: int
    buffer: str


class Model(Handle):
    """A loaded model. Thread: any, for everything but `close()`."""

    def __init__(self, ptr: CData, params: ModelParams) -> None:
        """Take over a native model; use `Model.load`."""
        self.params = params
        # found once: it takes a pass over the vocabulary
        self._end_tokens = end_tokens(lib.llama_model_get_vocab(ptr))
        self._ends_array = ffi.new("llama_token[]", self._end_tokens)
        self.ends = ffi.new(
            "struct shm_tokens *", {"data": self._ends_array, "size": len(self._end_tokens)}
        )
        """The end tokens as samplers and rows take them; for this package only."""
        super().__init__(ptr, lib.llama_model_free)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        params: ModelParams | None = None,
        *,
        progress: Callable[[float], None] | None = None,
        control: LoadControl | None = None,
    ) -> Self:
        """Load a GGUF file (the first shard finds the others), or all shards in order.

        `progress` is called on this thread, with 0 to 1; an exception that it raises ends the load
        and is raised from here. Raises `ModelLoadError` with llama.cpp's last log lines, or
        `LoadCancelledError` after `control.cancel()`.
        """
        backend.init()
        params = params or ModelParams()
        paths = [path] if isinstance(path, (str, os.PathLike)) else list(path)
        files = [_existing(one) for one in paths]
        native = NativeModelParams(params)
        control = control or LoadControl()
        relay = ProgressRelay(progress) if progress is not None else None
        if relay is not None:
            native.struct.progress_callback = lib.shimmy_load_progress
            native.struct.progress_callback_user_data = relay.handle
        names = [ffi.new("char[]", os.fsencode(file)) for file in files]
        mark = log_mark()
        ptr = lib.shm_model_load(ffi.new("char *[]", names), len(names), native.struct, control.ptr)
        if ptr == ffi.NULL:
            if relay is not None and relay.error is not None:
                raise relay.error
            what = ", ".join(str(file) for file in files)
            if control.cancelled:
                raise LoadCancelledError(f"loading {what} was cancelled")
            raise_fault(f"could not load {what}", mark=mark, error=ModelLoadError)
        return cls(ptr, params)

    @property
    def vocab(self) -> Vocab:
        """The model's vocabulary; it lives as long as the model."""
        return Vocab(self)

    @property
    def end_tokens(self) -> tuple[int, ...]:
        """The tokens that end generation, in order."""
        return self._end_tokens

    @property
    def metadata(self) -> dict[str, str]:
        """The GGUF's scalar metadata as text; arrays are left out."""
        ptr, found = self.ptr, {}
        for i in range(lib.llama_model_meta_count(ptr)):
            key = sized_text(lib.llama_model_meta_key_by_index, ptr, i)
            value = sized_text(lib.llama_model_meta_val_str_by_index, ptr, i)
            if key is not None and value is not None:
                found[key] = value
        return found

    def meta(self, key: str) -> str | None:
        """Return one metadata value, None where the GGUF has none."""
        return sized_text(lib.llama_model_meta_val_str, self.ptr, _checks.nul_free("key", key))

    def chat_template(self, name: str | None = None) -> str | None:
        """Return the default chat template, or the variant `name` ("tool_use")."""
        c_name = ffi.NULL if name is None else _checks.nul_free("name", name)
        return optional_text(lib.llama_model_chat_template(self.ptr, c_name))

    def tensors(self) -> tuple[TensorPlace, ...]:
        """Return where every tensor lies; empty for a model without weights in memory."""
        listed = json.loads(take_text(lib.shm_model_tensors(self.ptr), "listing the tensors"))
        return tuple(TensorPlace(**entry) for entry in listed)

    @property
    def desc(self) -> str:
        """Architecture, size and quantisation in one line."""
        return sized_text(lib.llama_model_desc, self.ptr) or ""

    @property
    def ftype(self) -> str:
        """The quantisation's name."""
        return text(lib.llama_ftype_name(lib.llama_model_ftype(self.ptr)))

    @property
    def size(self) -> int:
        """All tensors in bytes."""
        return int(lib.llama_model_size(self.ptr))

    @property
    def n_params(self) -> int:
        """The number of parameters."""
        return int(lib.llama_model_n_params(self.ptr))

    @property
    def n_ctx_train(self) -> int:
        """The context that the model was trained with, in tokens."""
        return int(lib.llama_model_n_ctx_train(self.ptr))

    @property
    def n_embd(self) -> int:
        """The width of the hidden state."""
        return int(lib.llama_model_n_embd(self.ptr))

    @property
    def n_embd_out(self) -> int:
        """The width of an output embedding."""
        return int(lib.llama_model_n_embd_out(self.ptr))

    @property
    def n_layer(self) -> int:
        """The number of layers, without MTP layers."""
        return int(lib.llama_model_n_layer(self.ptr))

    @property
    def n_head(self) -> int:
        """The number of attention heads."""
        return int(lib.llama_model_n_head(self.ptr))

    @property
    def n_head_kv(self) -> int:
        """The number of KV heads."""
        return int(lib.llama_model_n_head_kv(self.ptr))

    @property
    def n_swa(self) -> int:
        """The sliding window in tokens, 0 where attention sees everything."""
        return int(lib.llama_model_n_swa(self.ptr))

    @property
    def has_encoder(self) -> bool:
        """Whether prompts go through `Context.encode` first."""
        return bool(lib.llama_model_has_encoder(self.ptr))

    @property
    def has_decoder(self) -> bool:
        """Whether the model generates."""
        return bool(lib.llama_model_has_decoder(self.ptr))

    @property
    def decoder_start_token(self) -> int | None:
        """The token that starts the decoder of an encoder-decoder model."""
        token = int(lib.llama_model_decoder_start_token(self.ptr))
        return None if token == lib.LLAMA_TOKEN_NULL else token

    @property
    def is_recurrent(self) -> bool:
        """Whether the model keeps a state instead of a KV cache (Mamba, RWKV)."""
        return bool(lib.llama_model_is_recurrent(self.ptr))

    @property
    def is_hybrid(self) -> bool:
        """Whether the model keeps both a state and a KV cache (Jamba, Granite)."""
        return bool(lib.llama_model_is_hybrid(self.ptr))

    @property
    def is_diffusion(self) -> bool:
        """Whether the model generates by diffusion."""
        return bool(lib.llama_model_is_diffusion(self.ptr))

    @property
    def classifier_labels(self) -> tuple[str | None, ...]:
        """The labels of a classifier's outputs; one None where the model is no classifier."""
        ptr = self.ptr
        labels = (lib.llama_model_cls_label(ptr, i) for i in range(lib.llama_model_n_cls_out(ptr)))
        return tuple(optional_text(label) for label in labels)


def _existing(path: str | os.PathLike[str]) -> Path:
    file = Path(path)
    if "\0" in str(file):
        raise InvalidRequestError("a model's path must not contain a NUL character", param="path")
    if not file.is_file():
        what = "is a directory" if file.is_dir() else "does not exist"
        raise ModelLoadError(f"could not load {file}: the file {what}")
    return file
