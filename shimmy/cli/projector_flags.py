"""Flags for the projector, the file that lets a model see images, under llama.cpp's names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import click

from shimmy.cli.numbers import Whole


def _projector(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """Look at the file before anything is loaded for it."""
    from shimmy.models.projector import flaw

    if value is None:
        return None
    path = Path(value).expanduser()
    if not path.is_file():
        raise click.BadParameter(f"projector file {path} not found")
    if found := flaw(path):
        raise click.BadParameter(found)
    return str(path)


def check_projector(given: Mapping[str, object]) -> None:
    """Refuse flags that ask for a projector and for none.

    Raises:
        UsageError: they do.
    """
    if given.get("mmproj") is not None and given.get("use_mmproj") is False:
        raise click.UsageError("--mmproj cannot be used with --no-mmproj")


PROJECTOR_OPTIONS: list[Callable[[Callable[..., None]], Callable[..., None]]] = [
    click.option(
        "-mm",
        "--mmproj",
        "mmproj",
        callback=_projector,
        metavar="FILE",
        help="Projector with which the model sees images; default: the one that lies beside it.",
    ),
    click.option(
        "--mmproj-auto/--no-mmproj",
        "use_mmproj",
        default=None,
        help="Load models with their projectors (default), or none of them.",
    ),
    click.option(
        "--mmproj-offload/--no-mmproj-offload",
        "mmproj_offload",
        default=None,
        help="Keep the projector on a GPU that the model uses (default), or in host memory.",
    ),
    click.option(
        "--image-min-tokens",
        "image_min_tokens",
        type=Whole(min=1),
        metavar="N",
        help="Least tokens of an image, where its size decides.",
    ),
    click.option(
        "--image-max-tokens",
        "image_max_tokens",
        type=Whole(min=1),
        metavar="N",
        help="Most tokens of an image, where its size decides.",
    ),
]

PROJECTOR_NAMES = (
    "mmproj",
    "use_mmproj",
    "mmproj_offload",
    "image_min_tokens",
    "image_max_tokens",
)
