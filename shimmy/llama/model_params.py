"""How a model is loaded, in llama.cpp's words; None leaves a choice to llama.cpp."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from shimmy.errors import InvalidRequestError
from shimmy.llama import _checks, backend
from shimmy.llama._ffi import CData, ffi, lib, text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class SplitMode(StrEnum):
    """How a model is split over several GPUs."""

    NONE = "none"
    LAYER = "layer"
    ROW = "row"
    TENSOR = "tensor"


class LoadMode(StrEnum):
    """How the file gets into memory."""

    AUTO = "auto"
    NONE = "none"
    MMAP = "mmap"
    MLOCK = "mlock"
    MMAP_MLOCK = "mmap+mlock"
    DIRECT_IO = "dio"


@dataclass(frozen=True, slots=True)
class TensorBuftOverride:
    """Tensors whose name contains a match of `pattern` go to the buffer type `buffer_type`."""

    pattern: str
    buffer_type: str


KvValue = bool | int | float | str
"""A GGUF metadata value that can be overridden."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelParams:
    """llama_model_params; None is llama.cpp's default.

    `devices` are names of `backend.devices()` (empty: none, so the CPU alone). The first of
    `tensor_buft_overrides` that matches a tensor wins.
    """

    devices: Sequence[str] | None = None
    tensor_buft_overrides: Sequence[TensorBuftOverride] = ()
    n_gpu_layers: int | None = None
    split_mode: SplitMode | None = None
    load_mode: LoadMode | None = None
    main_gpu: int | None = None
    tensor_split: Sequence[float] | None = None
    kv_overrides: Mapping[str, KvValue] | None = None
    vocab_only: bool | None = None
    check_tensors: bool | None = None
    use_extra_bufts: bool | None = None
    no_host: bool | None = None
    no_alloc: bool | None = None
    load_mtp: bool | None = None


# common/common.h: LLM_FFN_EXPS_REGEX, what --cpu-moe and --n-cpu-moe match
_EXPERTS = r"\.ffn_(up|down|gate|gate_up)_(ch|)exps"

_SPLIT_MODES: dict[str, int] = {
    SplitMode.NONE: lib.LLAMA_SPLIT_MODE_NONE,
    SplitMode.LAYER: lib.LLAMA_SPLIT_MODE_LAYER,
    SplitMode.ROW: lib.LLAMA_SPLIT_MODE_ROW,
    SplitMode.TENSOR: lib.LLAMA_SPLIT_MODE_TENSOR,
}
_LOAD_MODES: dict[str, int] = {
    LoadMode.AUTO: lib.LLAMA_LOAD_MODE_AUTO,
    LoadMode.NONE: lib.LLAMA_LOAD_MODE_NONE,
    LoadMode.MMAP: lib.LLAMA_LOAD_MODE_MMAP,
    LoadMode.MLOCK: lib.LLAMA_LOAD_MODE_MLOCK,
    LoadMode.MMAP_MLOCK: lib.LLAMA_LOAD_MODE_MMAP_MLOCK,
    LoadMode.DIRECT_IO: lib.LLAMA_LOAD_MODE_DIRECT_IO,
}
_FLAGS = ("vocab_only", "check_tensors", "use_extra_bufts", "no_host", "no_alloc", "load_mtp")
_KV_KEY_BYTES = 128
_INT64_MAX = 2**63 - 1


def cpu_moe() -> tuple[TensorBuftOverride, ...]:
    """Return what --cpu-moe asks for: the experts of every layer in CPU memory."""
    return (TensorBuftOverride(_EXPERTS, _cpu_buffer_type()),)


def n_cpu_moe(n: int) -> tuple[TensorBuftOverride, ...]:
    """Return what --n-cpu-moe asks for: the experts of the first `n` layers in CPU memory."""
    _checks.integer("n_cpu_moe", n, 0, int(lib.llama_max_tensor_buft_overrides()) - 1)
    cpu = _cpu_buffer_type()
    return tuple(TensorBuftOverride(rf"blk\.{layer}{_EXPERTS}", cpu) for layer in range(n))


def parse_override_tensor(argument: str) -> tuple[TensorBuftOverride, ...]:
    """Read an --override-tensor argument: PATTERN=BUFFER_TYPE, several separated by commas."""
    overrides = []
    for part in argument.split(","):
        pattern, equals, buffer_type = part.partition("=")
        if not equals or not pattern or not buffer_type:
            raise InvalidRequestError(
                f"override_tensor takes PATTERN=BUFFER_TYPE, not '{part}'", param="override_tensor"
            )
        overrides.append(TensorBuftOverride(pattern, buffer_type))
    return tuple(overrides)


class NativeModelParams:
    """A checked llama_model_params with the memory that it points to.

    llama.cpp copies all of it during the load, so this need not live longer.
    """

    def __init__(self, params: ModelParams) -> None:
        self._kept: list[CData] = []
        self.struct = ffi.new("struct llama_model_params *")
        self.struct[0] = lib.llama_model_default_params()
        self._set_plain(params)
        if params.devices is not None:
            pointers = [backend.device_pointer(name) for name in params.devices]
            self.struct.devices = self._array("ggml_backend_dev_t[]", [*pointers, ffi.NULL])
        if params.tensor_split is not None:
            self.struct.tensor_split = self._tensor_split(params.tensor_split)
        if params.tensor_buft_overrides:
            self.struct.tensor_buft_overrides = self._overrides(params.tensor_buft_overrides)
        if params.kv_overrides:
            self.struct.kv_overrides = self._kv_overrides(params.kv_overrides)

    def _array(self, kind: str, content: object) -> CData:
        array = ffi.new(kind, content)
        self._kept.append(array)
        return array

    def _set_plain(self, params: ModelParams) -> None:
        struct = self.struct
        if params.n_gpu_layers is not None:
            # llama.cpp's own sentinel: any negative number is "all"
            struct.n_gpu_layers = _checks.integer(
                "n_gpu_layers", params.n_gpu_layers, -1, _checks.INT32_MAX
            )
        if params.split_mode is not None:
            struct.split_mode = _checks.word("split_mode", params.split_mode, _SPLIT_MODES)
        if params.load_mode is not None:
            struct.load_mode = _checks.word("load_mode", params.load_mode, _LOAD_MODES)
        if params.no_alloc:
            # llama.cpp asserts that it does not map what it only sizes
            if params.load_mode not in {None, LoadMode.NONE}:
                raise InvalidRequestError(
                    f"no_alloc loads nothing: load_mode cannot be {params.load_mode}",
                    param="load_mode",
                )
            struct.load_mode = lib.LLAMA_LOAD_MODE_NONE
        if params.main_gpu is not None:
            struct.main_gpu = _checks.integer("main_gpu", params.main_gpu, -1, _checks.INT32_MAX)
        for name in _FLAGS:
            value = getattr(params, name)
            if value is not None:
                setattr(struct, name, _checks.boolean(name, value))

    def _tensor_split(self, parts: Sequence[float]) -> CData:
        most = int(lib.llama_max_devices())
        if len(parts) > most:
            raise InvalidRequestError(
                f"tensor_split has {len(parts)} parts, but llama.cpp knows at most {most} devices",
                param="tensor_split",
            )
        checked = [_checks.real("tensor_split", part, 0.0) for part in parts]
        return self._array("float[]", checked + [0.0] * (most - len(checked)))

    def _overrides(self, overrides: Sequence[TensorBuftOverride]) -> CData:
        most = int(lib.llama_max_tensor_buft_overrides()) - 1
        if len(overrides) > most:
            raise InvalidRequestError(
                f"{len(overrides)} tensor_buft_overrides are more than the {most} allowed",
                param="tensor_buft_overrides",
            )
        array = self._array("struct llama_model_tensor_buft_override[]", len(overrides) + 1)
        known = backend.buffer_types()
        for entry, override in zip(array, overrides, strict=False):
            if override.buffer_type not in known:
                raise InvalidRequestError(
                    f"there is no buffer type '{override.buffer_type}', only: {', '.join(known)}",
                    param="tensor_buft_overrides",
                )
            entry.pattern = self._array("char[]", _checked_pattern(override.pattern))
            entry.buft = known[override.buffer_type]
        return array

    def _kv_overrides(self, overrides: Mapping[str, KvValue]) -> CData:
        array = self._array("struct llama_model_kv_override[]", len(overrides) + 1)
        for entry, (key, value) in zip(array, overrides.items(), strict=False):
            entry.key = _short("kv_overrides key", key)
            if isinstance(value, bool):
                entry.tag, entry.val_bool = lib.LLAMA_KV_OVERRIDE_TYPE_BOOL, value
            elif isinstance(value, int):
                number = _checks.integer(f"kv_overrides {key}", value, -_INT64_MAX, _INT64_MAX)
                entry.tag, entry.val_i64 = lib.LLAMA_KV_OVERRIDE_TYPE_INT, number
            elif isinstance(value, float):
                entry.tag, entry.val_f64 = lib.LLAMA_KV_OVERRIDE_TYPE_FLOAT, value
            elif isinstance(value, str):
                entry.tag = lib.LLAMA_KV_OVERRIDE_TYPE_STR
                entry.val_str = _short(f"kv_overrides {key}", value, empty_allowed=True)
            else:
                raise InvalidRequestError(
                    f"kv_overrides {key} must be a bool, int, float or str, "
                    f"not {type(value).__name__}",
                    param="kv_overrides",
                )
        return array


def _cpu_buffer_type() -> str:
    return text(lib.ggml_backend_buft_name(lib.ggml_backend_cpu_buffer_type()))


def _checked_pattern(pattern: str) -> bytes:
    raw = _checks.nul_free("tensor_buft_overrides", pattern)
    if lib.shm_regex_check(raw) != 0:
        raise InvalidRequestError(
            f"tensor_buft_overrides: '{pattern}' is no regular expression "
            f"(ECMAScript): {text(lib.shm_last_error())}",
            param="tensor_buft_overrides",
        )
    return raw


def _short(what: str, value: str, *, empty_allowed: bool = False) -> bytes:
    """Return a string that fits llama.cpp's fixed field, its ending NUL included."""
    raw = _checks.nul_free("kv_overrides", value)
    if len(raw) >= _KV_KEY_BYTES or not (raw or empty_allowed):
        raise InvalidRequestError(
            f"{what} must have 1 to {_KV_KEY_BYTES - 1} bytes, but has {len(raw)}",
            param="kv_overrides",
        )
    return raw
