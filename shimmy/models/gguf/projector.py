"""What the header of a projector says: which senses it gives a model, and how wide that must be."""

from __future__ import annotations

from typing import Literal

from shimmy.models.gguf.file import GgufFile
from shimmy.models.gguf.metadata import Metadata

Sense = Literal["vision", "audio"]
SENSES: tuple[Sense, ...] = ("vision", "audio")

# clip_n_mmproj_embd(): the tensor and the dimension that are as wide as the model, by projector type.
# qwen3vl's output is wider, for its deepstack layers, and so is then its model's input.
_OUTPUTS: dict[str, tuple[str, int]] = {
    "mlp": ("mm.2.weight", 1),
    "pixtral": ("mm.2.weight", 1),
    "lightonocr": ("mm.2.weight", 1),
    "lfm2": ("mm.2.weight", 1),
    "kimivl": ("mm.2.weight", 1),
    "qwen2vl_merger": ("mm.2.bias", 0),
    "qwen2.5vl_merger": ("mm.2.bias", 0),
    "qwen3vl_merger": ("mm.2.bias", 0),
    "internvl": ("mm.model.mlp.3.weight", 1),
    "idefics3": ("mm.model.fc.weight", 1),
    "llama4": ("mm.model.fc.weight", 1),
    "gemma3": ("mm.input_projection.weight", 0),
    "gemma4v": ("mm.input_projection.weight", 1),
    "resampler": ("resampler.proj.weight", 0),
}
# Its output is several times its projection_dim.
_STACKED = "granite4_vision"
# A `mlp` with a norm behind it, which ends in other tensors.
_WITH_NORM = "mm.3.weight"


def type_of(metadata: Metadata) -> str | None:
    """Return llama.cpp's name for the kind of projector, of the one for images where there are two."""
    return metadata.text("clip.projector_type") or metadata.text("clip.vision.projector_type")


def senses_of(metadata: Metadata) -> tuple[Sense, ...]:
    """Return what a projector turns into tokens; where no flag says so, its other keys do."""
    return tuple(sense for sense in SENSES if _has(metadata, sense))


def width_of(gguf: GgufFile) -> int | None:
    """Return how wide a projector's model must be; None where that is not sure.

    `projection_dim` is the model's width in files of llama.cpp's converter only: older tools wrote
    what the image encoder calls so.
    """
    kind = type_of(gguf.metadata) or ""
    shapes = {tensor.name: tensor.shape for tensor in gguf.tensors}
    name, dimension = _OUTPUTS.get(kind, ("", 0))
    if name in shapes and not (kind == "mlp" and _WITH_NORM in shapes):
        shape = shapes[name]
        return shape[dimension] if dimension < len(shape) else None
    if gguf.metadata.text("general.type") != "mmproj" or kind == _STACKED:
        return None
    counts = (gguf.metadata.count(f"clip.{sense}.projection_dim") for sense in SENSES)
    return next((count for count in counts if count), None)


def _has(metadata: Metadata, sense: Sense) -> bool:
    said = metadata.flag(f"clip.has_{sense}_encoder")
    if said is not None:
        return said
    return any(key.startswith(f"clip.{sense}.") for key in metadata.fields)
