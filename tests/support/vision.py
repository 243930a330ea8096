"""Tiny models that see: a text model and its projector, random weights from a seed, and pictures to show them.

Each pair is of another kind of image input: `llava` reads an image as if it were text; `qwen2vl` has positions in two
dimensions and as many tokens as the image is large; `gemma3` lets the tokens of an image see each other, over a sliding window.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import gguf
import numpy as np
import numpy.typing as npt
from PIL import Image

from tests.support.tiny_gguf import N_EMBD as N_TEXT
from tests.support.tiny_gguf import SPECIALS, vocabulary, write_model

Kind = Literal["llava", "qwen2vl", "gemma3"]
Shapes = dict[str, tuple[int, ...]]

PATCH = 8
# an image of any size has 16 tokens for llava and gemma3; for qwen2vl one for each 16x16 pixels, at least 8, at most 4096
SIDE = {"llava": 32, "qwen2vl": 64, "gemma3": 64}
MERGE = 2
ARCH = {"llava": "llama", "qwen2vl": "qwen2vl", "gemma3": "gemma3"}
# what mtmd puts around an image; without these tokens it would be text of many bytes
MARKS = {
    "llava": (),
    "qwen2vl": ("<|vision_start|>", "<|vision_end|>"),
    "gemma3": ("<start_of_image>", "<end_of_image>"),
}
N_EMBD, N_HEAD, N_FF, N_LAYER = 64, 2, 128, 2


def make_pair(
    kind: Kind, folder: Path, *, drop: tuple[str, ...] = (), lacking: tuple[str, ...] = ()
) -> tuple[Path, Path]:
    """Write both files of a kind into `folder`; returns the text model, without what to `drop`, and the projector.

    Tensors that are `lacking` are the projector's.
    """
    marks = MARKS[kind]
    text = write_model(
        folder / f"tiny-{kind}.gguf",
        arch=ARCH[kind],
        specials=marks,
        extra={"output.weight": _output(len(marks))},
        drop=drop,
    )
    return text, _write_projector(kind, folder / f"mmproj-tiny-{kind}.gguf", lacking)


def picture(seed: int, width: int, height: int) -> bytes:
    """Return a PNG of smooth random colours."""
    colours = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    image = Image.fromarray(colours).resize((width, height), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _output(n_marks: int) -> npt.NDArray[np.float16]:
    """Return an output layer that can say printable characters only: an answer is as long as it may be, and valid UTF-8."""
    tokens, _ = vocabulary()
    said = [i >= 256 or 0x20 <= i < 0x7F for i in range(len(tokens) - len(SPECIALS))]
    said += [False] * (len(SPECIALS) + n_marks)
    weights = _random("output.weight", (len(said), N_TEXT)).astype(np.float16)
    weights[~np.array(said)] = 0
    return weights


def _write_projector(kind: Kind, path: Path, lacking: tuple[str, ...]) -> Path:
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_type("mmproj")
    writer.add_name(f"tiny-{kind}")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_clip_has_vision_encoder(True)
    writer.add_vision_projection_dim(N_TEXT)
    writer.add_vision_image_size(SIDE[kind])
    writer.add_vision_patch_size(PATCH)
    writer.add_vision_embedding_length(N_EMBD)
    writer.add_vision_feed_forward_length(N_FF)
    writer.add_vision_block_count(N_LAYER)
    writer.add_vision_head_count(N_HEAD)
    writer.add_vision_attention_layernorm_eps(1e-5)
    writer.add_vision_image_mean([0.5, 0.5, 0.5])
    writer.add_vision_image_std([0.5, 0.5, 0.5])
    kinds: dict[Kind, Callable[[gguf.GGUFWriter], Shapes]] = {
        "llava": _llava,
        "qwen2vl": _qwen2vl,
        "gemma3": _gemma3,
    }
    for name, shape in (_encoder() | kinds[kind](writer)).items():
        if name in lacking:
            continue
        values = _random(name, shape)
        # what is not multiplied with is F32 in real files too
        small = len(shape) == 1 or "position" in name
        writer.add_tensor(name, values if small else values.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file(progress=False)
    writer.close()
    return path


def _encoder() -> Shapes:
    """Return what all have: patches, and layers of a transformer."""
    shapes: Shapes = {"v.patch_embd.weight": (N_EMBD, 3, PATCH, PATCH)}
    for i in range(N_LAYER):
        b = f"v.blk.{i}."
        for x in ("attn_q", "attn_k", "attn_v", "attn_out"):
            shapes |= _linear(b + x, N_EMBD, N_EMBD)
        shapes |= _linear(b + "ffn_up", N_FF, N_EMBD) | _linear(b + "ffn_down", N_EMBD, N_FF)
        shapes |= _norm(b + "ln1") | _norm(b + "ln2")
    return shapes


def _llava(writer: gguf.GGUFWriter) -> Shapes:
    writer.add_clip_projector_type("mlp")
    n_positions = (SIDE["llava"] // PATCH) ** 2 + 1
    return {
        "v.class_embd": (N_EMBD,),
        "v.position_embd.weight": (n_positions, N_EMBD),
        **_norm("v.pre_ln"),
        **_linear("mm.0", N_TEXT, N_EMBD),
        **_linear("mm.2", N_TEXT, N_TEXT),
    }


def _qwen2vl(writer: gguf.GGUFWriter) -> Shapes:
    writer.add_clip_projector_type(gguf.VisionProjectorType.QWEN2VL)
    writer.add_vision_spatial_merge_size(MERGE)
    n_merged = MERGE**2 * N_EMBD
    return {
        # a still image is two equal frames, each with its own kernel
        "v.patch_embd.weight.1": (N_EMBD, 3, PATCH, PATCH),
        **_norm("v.post_ln"),
        **_linear("mm.0", n_merged, n_merged),
        **_linear("mm.2", N_TEXT, n_merged),
    }


def _gemma3(writer: gguf.GGUFWriter) -> Shapes:
    writer.add_clip_projector_type(gguf.VisionProjectorType.GEMMA3)
    writer.add_vision_use_gelu(True)
    writer.add_vision_projector_scale_factor(MERGE)
    return {
        "v.patch_embd.bias": (N_EMBD,),
        "v.position_embd.weight": ((SIDE["gemma3"] // PATCH) ** 2, N_EMBD),
        **_norm("v.post_ln"),
        "mm.soft_emb_norm.weight": (N_EMBD,),
        # lies the other way round than the rest
        "mm.input_projection.weight": (N_EMBD, N_TEXT),
    }


def _linear(name: str, rows: int, columns: int) -> Shapes:
    return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}


def _norm(name: str) -> Shapes:
    return {f"{name}.weight": (N_EMBD,), f"{name}.bias": (N_EMBD,)}


def _random(name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Return a tensor's weights, by its name alone: outputs as large as inputs, biases and positions that drown no image."""
    if name.endswith(("ln.weight", "ln1.weight", "ln2.weight", "norm.weight")):
        return np.ones(shape, np.float32)
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    n_inputs = np.prod(shape[1:]) if len(shape) > 1 else shape[0]
    return rng.standard_normal(shape, np.float32) * np.float32(n_inputs**-0.5)
