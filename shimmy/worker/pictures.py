"""From an image's file to what the model sees of it; the last ones are kept, as conversations repeat theirs.

Threads: that which prepares requests with images, and that which counts their tokens. Only one computes at a time,
also where one took too long and was replaced.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import OrderedDict, deque
from dataclasses import dataclass
from hashlib import blake2b
from io import BytesIO
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from shimmy.errors import ImageError, InvalidRequestError
from shimmy.llama.projector import Picture

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL.Image import Image

    from shimmy.llama.projector import Projector

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")

MAX_PIXELS = 64_000_000
"""Of one image: three bytes each, before it is made smaller."""

MAX_RATIO = 200
"""Of an image's sides: where its size decides, a strip becomes many times the most tokens that an image may be."""

MAX_BYTES = 256 << 20
"""Of embeddings that are kept for the next turn."""

MAX_LIVE_BYTES = 1 << 30
"""Of all embeddings, those of requests that wait for a slot too: then no more are computed."""

WAIT_SECONDS = 0.05

MAX_IDS = 4096
"""Images whose tokens are remembered when nothing else of them is kept: cells may still hold them."""


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Seen:
    """A picture, and the tokens that stand for each of its pieces."""

    key: bytes
    picture: Picture
    tokens: list[list[int]]


class _Ids:
    """The numbers of images' pieces: the same for the same image, and never given to another."""

    def __init__(self) -> None:
        # -1 is llama.cpp's own
        self._next = -2
        # the first piece's by the image's digest, the longest unused first; the others follow downwards
        self._first: OrderedDict[bytes, int] = OrderedDict()

    def first(self, key: bytes, n_pieces: int) -> int:
        """Return the number of the first of an image's pieces, which are as many each time."""
        first = self._first.pop(key, None)
        if first is None:
            first = self._next
            self._next -= n_pieces
        self._first[key] = first
        if len(self._first) > MAX_IDS:
            self._first.popitem(last=False)
        return first


class Pictures:
    """Images for one model."""

    def __init__(
        self,
        projector: Projector,
        *,
        n_ubatch: int,
        max_bytes: int = MAX_BYTES,
        max_live: int = MAX_LIVE_BYTES,
    ) -> None:
        """`n_ubatch` is the most tokens that a piece may have which is computed whole."""
        self._projector = projector
        self._n_ubatch = n_ubatch
        self._max_bytes = max_bytes
        self._max_live = max_live
        self._cutting = threading.Lock()
        # all that anybody holds, so that an image that comes twice has the same tokens
        self._cut: WeakValueDictionary[bytes, Seen] = WeakValueDictionary()
        self._computing = threading.Lock()
        # the computed ones with their embeddings' bytes, the longest unused first
        self._kept: OrderedDict[bytes, tuple[Seen, int]] = OrderedDict()
        self._n_bytes = 0
        self._ids = _Ids()
        # of all pictures that anybody holds; what is freed, on whatever thread, is taken off later
        self._n_live = 0
        self._freed: deque[int] = deque()

    def see(self, data: bytes, name: str) -> Seen:
        """Return what an image's file becomes, which is called `name` in errors; it may not be computed yet.

        Raises:
            ImageError: it is no image, or one that the model cannot take.
        """
        key = blake2b(data, digest_size=32).digest()
        with self._cutting:
            seen = self._cut.get(key)
            if seen is None:
                seen = self._cut[key] = self._made(key, data, name)
            return seen

    def await_room(self, wanted: Callable[[], bool]) -> None:
        """Wait until requests hold fewer embeddings, as long as this is `wanted`."""
        while self._full and wanted():
            time.sleep(WAIT_SECONDS)

    def compute(self, seen: Seen) -> None:
        """Compute the embeddings, unless they are kept."""
        with self._computing:
            if seen.key not in self._kept:
                n_bytes = self._projector.encode(seen.picture)
                self._n_live += n_bytes
                weakref.finalize(seen.picture, self._freed.append, n_bytes).atexit = False
                self._keep(seen, n_bytes)
            self._kept.move_to_end(seen.key)

    @property
    def _full(self) -> bool:
        with self._computing:
            while self._freed:
                self._n_live -= self._freed.popleft()
            return self._n_live >= self._max_live

    def _keep(self, seen: Seen, n_bytes: int) -> None:
        self._kept[seen.key] = (seen, n_bytes)
        self._n_bytes += n_bytes
        while self._n_bytes > self._max_bytes and len(self._kept) > 1:
            _, (_, n_bytes) = self._kept.popitem(last=False)
            self._n_bytes -= n_bytes

    def _made(self, key: bytes, data: bytes, name: str) -> Seen:
        image = read_image(data, name)
        try:
            picture = Picture(self._projector, image.tobytes(), image.width, image.height)
        except InvalidRequestError as error:
            raise ImageError(f"{name}: {error.message}", param="messages") from error
        largest = max((piece.n_cells for piece in picture.pieces if piece.whole), default=0)
        if largest > self._n_ubatch:
            raise ImageError(
                f"{name}: this model computes an image's {largest} tokens at once, and -ub allows "
                f"{self._n_ubatch}: start the server with -ub {largest} or more",
                param="messages",
            )
        first = self._ids.first(key, len(picture.pieces))
        tokens = [
            [first - i] * piece.n_cells if piece.is_medium else piece.tokens
            for i, piece in enumerate(picture.pieces)
        ]
        return Seen(key, picture, tokens)


def read_image(data: bytes, name: str) -> Image:
    """Return an image's first frame as RGB, upright, on white where it is transparent.

    Raises:
        ImageError: the file is of another format, damaged, or too large.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ImageError(
                    f"{name}: {image.width}x{image.height} pixels are more than {MAX_PIXELS}: "
                    "send a smaller image",
                    param="messages",
                )
            if max(image.size) > MAX_RATIO * min(image.size):
                raise ImageError(
                    f"{name}: of {image.width}x{image.height} pixels, one side is more than "
                    f"{MAX_RATIO} times the other: send an image that is less narrow",
                    param="messages",
                )
            upright = ImageOps.exif_transpose(image)
            if upright.has_transparency_data:
                upright = upright.convert("RGBA")
                white = Image.new("RGBA", upright.size, "white")
                upright = Image.alpha_composite(white, upright)
            return upright.convert("RGB")
    except ImageError:
        raise
    except Exception as error:  # what decoders raise: OSError, SyntaxError, struct.error, ...
        raise ImageError(
            f"{name} is not a PNG, JPEG, WebP or GIF image that can be read: {error}",
            param="messages",
        ) from error
