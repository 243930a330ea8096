"""llama.cpp as owned, closable, typed Python objects. Knows nothing of requests, scheduling or HTTP."""

from __future__ import annotations

from shimmy.llama.backend import Backend, Device, DeviceCaps, DeviceType
from shimmy.llama.batch import Batch
from shimmy.llama.context import BufferUse, Context, DecodeStatus, Perf
from shimmy.llama.context_params import (
    Attention,
    ContextParams,
    ContextType,
    FlashAttn,
    Pooling,
    RopeScaling,
)
from shimmy.llama.handle import Handle
from shimmy.llama.load_control import LoadControl
from shimmy.llama.loader import BackendModule
from shimmy.llama.log import LogLevel, LogLine, LogPump
from shimmy.llama.lora import Lora
from shimmy.llama.memory import Memory
from shimmy.llama.model import Model, TensorPlace
from shimmy.llama.model_params import (
    LoadMode,
    ModelParams,
    SplitMode,
    TensorBuftOverride,
    cpu_moe,
    n_cpu_moe,
    parse_override_tensor,
)
from shimmy.llama.sampler import Candidates, Sampler
from shimmy.llama.sampler_chain import SamplerChain
from shimmy.llama.state import State, StateFlags
from shimmy.llama.vocab import TokenAttr, Vocab, VocabType

__all__ = [
    "Attention",
    "Backend",
    "BackendModule",
    "Batch",
    "BufferUse",
    "Candidates",
    "Context",
    "ContextParams",
    "ContextType",
    "DecodeStatus",
    "Device",
    "DeviceCaps",
    "DeviceType",
    "FlashAttn",
    "Handle",
    "LoadControl",
    "LoadMode",
    "LogLevel",
    "LogLine",
    "LogPump",
    "Lora",
    "Memory",
    "Model",
    "ModelParams",
    "Perf",
    "Pooling",
    "RopeScaling",
    "Sampler",
    "SamplerChain",
    "SplitMode",
    "State",
    "StateFlags",
    "TensorBuftOverride",
    "TensorPlace",
    "TokenAttr",
    "Vocab",
    "VocabType",
    "cpu_moe",
    "n_cpu_moe",
    "parse_override_tensor",
]
