"""Flags that say which devices compute and what lies on them, under llama.cpp's names."""

from __future__ import annotations

from collections.abc import Callable

import click

from shimmy.cli.numbers import Whole


def _names(
    _ctx: click.Context, _param: click.Parameter, value: str | None
) -> tuple[str, ...] | None:
    """Split device names at commas."""
    if value is None:
        return None
    names = tuple(name for part in value.split(",") if (name := part.strip()))
    if not names:
        raise click.BadParameter("give names that `shimmy gpu-info` shows, such as CUDA0, or none")
    return names


def _parts(
    _ctx: click.Context, _param: click.Parameter, value: str | None
) -> tuple[float, ...] | None:
    """Split proportions at commas."""
    if value is None:
        return None
    try:
        parts = tuple(float(part) for part in value.split(","))
    except ValueError:
        parts = ()
    if not parts or not all(0 <= part < float("inf") for part in parts) or not any(parts):
        raise click.BadParameter(f"{value!r} is not a list of proportions, such as 3,1")
    return parts


DEVICE_OPTIONS: list[Callable[[Callable[..., None]], Callable[..., None]]] = [
    click.option(
        "-dev",
        "--device",
        "devices",
        callback=_names,
        metavar="NAME[,NAME...]",
        help="Devices to use, as `shimmy gpu-info` names them; none: the CPU alone.",
    ),
    click.option(
        "--gpu-fallback",
        "gpu_fallback",
        is_flag=True,
        default=None,
        help="Take the CPU if the backend of --gpu-backend cannot be used, instead of failing.",
    ),
    click.option(
        "--retry-backends",
        "retry_backends",
        is_flag=True,
        default=None,
        help="Try backends again that failed their first use on this machine.",
    ),
    click.option(
        "-sm",
        "--split-mode",
        "split_mode",
        type=click.Choice(("none", "layer", "row", "tensor")),
        help="How several GPUs share a model.",
    ),
    click.option(
        "-ts",
        "--tensor-split",
        "tensor_split",
        callback=_parts,
        metavar="P[,P...]",
        help="Each GPU's part, as proportions; default: by free memory.",
    ),
    click.option(
        "-mg",
        "--main-gpu",
        "main_gpu",
        type=Whole(min=0),
        metavar="N",
        help="The GPU to use with --split-mode none, counted among those in use.",
    ),
    click.option(
        "-kvo/-nkvo",
        "--kv-offload/--no-kv-offload",
        "offload_kqv",
        default=None,
        help="Keep the KV cache on the GPU (default), or in host memory.",
    ),
    click.option(
        "--op-offload/--no-op-offload",
        "op_offload",
        default=None,
        help="Let the GPU compute large batches of layers in host memory (default), or not.",
    ),
    click.option(
        "-lm",
        "--load-mode",
        "load_mode",
        type=click.Choice(("auto", "none", "mmap", "mlock", "mmap+mlock", "dio")),
        help="How the file gets into memory; auto maps it where the devices can (default).",
    ),
    click.option(
        "--repack/--no-repack",
        " /-nr",
        "repack",
        default=None,
        help="Copy weights into a layout that is faster on the CPU (default where there is room).",
    ),
]

DEVICE_NAMES = (
    "devices", "gpu_fallback", "retry_backends", "split_mode", "tensor_split", "main_gpu",
    "offload_kqv", "op_offload", "load_mode", "repack",
)  # fmt: skip
