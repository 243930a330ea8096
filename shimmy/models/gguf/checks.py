"""Headers that llama.cpp would answer with an abort instead of an error, found before it sees them."""

from __future__ import annotations

from collections.abc import Iterator

from shimmy.models.gguf.file import GgufFile
from shimmy.models.gguf.metadata import Metadata
from shimmy.models.gguf.projector import SENSES, type_of
from shimmy.models.gguf.types import ValueType

# LLAMA_MAX_LAYERS and LLAMA_MAX_EXPERTS.
MAX_LAYERS = 512
MAX_EXPERTS = 1024
ROPE_SCALINGS = ("none", "linear", "yarn", "longrope")

# read without a look at their type somewhere in llama.cpp
_TYPES = {
    "split.no": ValueType.UINT16,
    "split.count": ValueType.UINT16,
    "general.type": ValueType.STRING,
    "general.architecture": ValueType.STRING,
    "adapter.type": ValueType.STRING,
    "adapter.lora.alpha": ValueType.FLOAT32,
}
_EPSILONS = ("layer_norm_epsilon", "layer_norm_rms_epsilon", "group_norm_epsilon")
# the same for clip.cpp; keys of the encoder for sound as those for images
_CLIP_TYPES = {
    "clip.projector_type": ValueType.STRING,
    "clip.vision.projector_type": ValueType.STRING,
    "clip.has_vision_encoder": ValueType.BOOL,
    "clip.has_audio_encoder": ValueType.BOOL,
    "clip.has_gen_audio_encoder": ValueType.BOOL,
    "clip.use_gelu": ValueType.BOOL,
    "clip.use_silu": ValueType.BOOL,
    "clip.vision.attention.layer_norm_epsilon": ValueType.FLOAT32,
    **{
        f"clip.vision.{name}": ValueType.UINT32
        for name in (
            *("embedding_length", "feed_forward_length", "block_count", "projection_dim"),
            *("attention.head_count", "image_size", "patch_size"),
        )
    },
}
# ggml has no kernels that multiply with them
_NOT_COMPUTABLE = frozenset({"F64", "Q8_1", "Q8_K"})
# two experts are the least: with fewer this family counts none
_FEW_EXPERTS = frozenset({"hunyuan-vl", "hunyuan-dense"})


def objections(gguf: GgufFile) -> list[str]:
    """Return why this file must not reach native code; empty if nothing speaks against it."""
    metadata = gguf.metadata
    architecture = metadata.text("general.architecture")
    found = list(_wrong_types(metadata))
    if architecture is not None and architecture != "clip":
        found += _layers(metadata, architecture)
        found += _experts(metadata, architecture)
        found += _rope(metadata, architecture)
        found += _epsilons(metadata, f"{architecture}.attention.")
    if architecture == "clip" or metadata.text("general.type") == "mmproj":
        found += _projector(metadata)
    found += [
        f"the tensor {tensor.name!r} has type {tensor.type}, which cannot be computed with"
        for tensor in gguf.tensors
        if tensor.type in _NOT_COMPUTABLE
    ][:1]
    if gguf.end > gguf.size:
        found.append(f"it is cut short: {gguf.size} of {gguf.end} bytes; fetch it again")
    return found


def _wrong_types(metadata: Metadata) -> Iterator[str]:
    for key, wanted in _TYPES.items():
        kind = metadata.type(key)
        if kind is not None and kind is not wanted:
            yield f"{key} is {kind.name.lower()}, not {wanted.name.lower()}"


def _layers(metadata: Metadata, architecture: str) -> Iterator[str]:
    key = f"{architecture}.block_count"
    n_layer = metadata.count(key)
    if n_layer is None:
        return
    if not 0 < n_layer <= MAX_LAYERS:
        yield f"{key} is {n_layer}; 1 to {MAX_LAYERS} can be"
    for part in ("posnet", "convnext"):
        of_part = metadata.count(f"{architecture}.{part}.block_count") or 0
        if of_part > n_layer:
            yield f"{architecture}.{part}.block_count is {of_part}, more than {key}, {n_layer}"


def _experts(metadata: Metadata, architecture: str) -> Iterator[str]:
    names = ("expert_count", "expert_used_count", "expert_group_count", "expert_group_used_count")
    n_expert, n_used, n_groups, n_groups_used = (
        metadata.count(f"{architecture}.{name}") or 0 for name in names
    )
    if architecture in _FEW_EXPERTS and n_expert <= 1:
        n_expert = n_used = 0
    said = f"{architecture}.expert_count is {n_expert}"
    if n_expert > MAX_EXPERTS:
        yield f"{said}; {MAX_EXPERTS} is the limit"
    elif n_used > n_expert or (n_expert and not n_used):
        yield f"{said}, but expert_used_count {n_used}"
    elif n_groups and n_groups >= n_expert:
        yield f"{said}, but expert_group_count {n_groups}"
    elif n_groups > 1 and (n_expert % n_groups or not 0 < n_groups_used < n_groups):
        yield f"{said}, which does not go with {n_groups} groups of which {n_groups_used} are used"


def _rope(metadata: Metadata, architecture: str) -> Iterator[str]:
    key = f"{architecture}.rope.scaling.type"
    kind = metadata.text(key)
    if kind is not None and kind not in ROPE_SCALINGS:
        yield f"{key} is {kind!r}, not one of {', '.join(ROPE_SCALINGS)}"


def _projector(metadata: Metadata) -> Iterator[str]:
    """Find what clip.cpp asserts on, or does not load because older tools left it out."""
    for key in metadata.fields:
        wanted = _CLIP_TYPES.get(key.replace(".audio.", ".vision."))
        kind = metadata.type(key)
        if wanted is not None and kind is not None and kind is not wanted:
            yield f"{key} is {kind.name.lower()}, not {wanted.name.lower()}"
    if not any(f"clip.has_{sense}_encoder" in metadata.fields for sense in SENSES):
        yield "it does not say what it encodes: clip.has_vision_encoder is not there"
    elif type_of(metadata) is None and metadata.text("clip.audio.projector_type") is None:
        yield "it does not say what kind of projector it is: clip.projector_type is not there"
    for sense in SENSES:
        key = f"clip.{sense}.block_count"
        n_layer = metadata.count(key) or 0
        if n_layer > MAX_LAYERS:
            yield f"{key} is {n_layer}; at most {MAX_LAYERS} can be"
        yield from _epsilons(metadata, f"clip.{sense}.attention.")


def _epsilons(metadata: Metadata, prefix: str) -> Iterator[str]:
    """Find what ggml asserts on in a compute thread, where nothing can catch it."""
    for name in _EPSILONS:
        key = prefix + name
        epsilon = metadata.number(key)
        if epsilon is not None and not epsilon >= 0:  # not a number is not either
            yield f"{key} is {epsilon}, which is no small positive number"
