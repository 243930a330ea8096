"""`--image`: files that a command shows to a model, and what is said of those that it cannot see."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import click
import msgspec

from shimmy.engine.images import MAX_IMAGE_BYTES, Images
from shimmy.engine.types.options import EngineOptions
from shimmy.errors import ConfigError, ImageError
from shimmy.models.entry import ModelEntry

# how the worker calls an image
_NAME = re.compile(r"messages: image (\d+)")


@dataclass(frozen=True, slots=True)
class Shown:
    """The images of a command line, in their order, and what they are called in errors."""

    images: Images = field(default_factory=Images)
    names: list[str] = field(default_factory=list)

    @property
    def marks(self) -> str:
        """What stands for all of them in a message."""
        return self.images.mark * len(self.names)

    def must_be_seen(self, options: EngineOptions, entry: ModelEntry) -> EngineOptions:
        """Return `options` with which the model is not loaded unless it sees.

        Raises:
            ConfigError: there is nothing to see with.
        """
        if options.mmproj is not None:
            return msgspec.structs.replace(options, mmproj_required=True)
        if entry.projector is None:
            why = "no projector lies with it that can be used; --mmproj names one"
        elif entry.sees:
            why = "--no-mmproj, or use_mmproj = false, keeps it blind"
        else:
            why = f"its projector is {entry.projector_use}"
        raise ConfigError(f"--image: {entry.name} sees no images: {why}")

    def named(self, error: ImageError) -> ImageError:
        """Return what the worker says of an image, with the file in the place of its number."""
        message = _NAME.sub(lambda found: self.names[int(found[1]) - 1], error.message, count=1)
        return ImageError(message, param="--image")


def _read(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> Shown:
    """Read the files before anything is loaded for them."""
    shown = Shown()
    for value in values:
        path = Path(value).expanduser()
        name = f"--image {path}"
        if not path.is_file():
            raise click.BadParameter(f"image file {path} not found")
        try:
            # what is too large is not even read
            with path.open("rb") as file:
                shown.images.add(file.read(MAX_IMAGE_BYTES + 1), name)
        except OSError as error:
            raise click.BadParameter(f"{path} cannot be read: {error.strerror}") from error
        except ImageError as error:
            raise click.BadParameter(error.message.removeprefix("--image ")) from error
        shown.names.append(name)
    return shown


image_flag: Callable[[Callable[..., None]], Callable[..., None]] = click.option(
    "--image",
    "shown",
    multiple=True,
    callback=_read,
    metavar="FILE",
    help="Show the model a PNG, JPEG, WebP or GIF before the prompt; may be repeated.",
)
