"""Images as the model reads them: a projector turns each into pieces of a prompt.

Thread: any, for all but `Projector.encode`, which one thread at a time may call. Closing a projector waits for both.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shimmy.errors import ClosedError, InvalidRequestError, ModelLoadError
from shimmy.llama import _checks
from shimmy.llama._ffi import check, ffi, lib, log_mark, raise_fault
from shimmy.llama.handle import Handle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shimmy.llama._ffi import CData
    from shimmy.llama.model import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectorParams:
    """How a projector computes: on `device` (ggml's name, None: the CPU) and `n_threads` of the CPU.

    Where an image's size decides how many tokens it becomes, it becomes `image_min_tokens` to
    `image_max_tokens`; None: the projector's own bounds.
    """

    device: str | None = None
    n_threads: int = 4
    image_min_tokens: int | None = None
    image_max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of the prompt that a picture becomes: `tokens`, or embeddings in so many cells.

    A `whole` one fits into a ubatch or cannot be computed.
    """

    tokens: list[int]
    n_cells: int
    whole: bool

    @property
    def is_medium(self) -> bool:
        """Whether it is embeddings."""
        return not self.tokens


class Picture:
    """An image, cut into pieces; its embeddings are computed by `Projector.encode`.

    It outlives the projector, and is freed with its last reference: rows keep what they need.
    """

    def __init__(self, projector: Projector, pixels: bytes, width: int, height: int) -> None:
        """Cut RGB `pixels`, row by row.

        Raises `InvalidRequestError` for an image that the projector cannot take.
        """
        if len(pixels) != 3 * width * height:
            raise InvalidRequestError(f"pixels: {len(pixels)} bytes are not {width}x{height} * 3")
        with projector.in_use() as used:
            ptr = lib.shm_picture_new(used, ffi.from_buffer("uint8_t[]", pixels), width, height)
        if ptr == ffi.NULL:
            raise_fault("cutting an image")
        self.ptr = ffi.gc(ptr, lib.shm_picture_free)
        self.pieces = [self._piece(i) for i in range(lib.shm_picture_n_pieces(ptr))]

    def _piece(self, i: int) -> Piece:
        piece = ffi.new("struct shm_piece *")
        check(lib.shm_picture_piece(self.ptr, i, piece), "cutting an image")
        tokens = [] if piece.tokens == ffi.NULL else ffi.unpack(piece.tokens, piece.n_tokens)
        return Piece(list(tokens), piece.n_tokens, piece.whole)


class Projector(Handle):
    """What lets a model see."""

    def __init__(self, model: Model, path: str | os.PathLike[str], params: ProjectorParams) -> None:
        """Load a GGUF projector; raises `ModelLoadError` with llama.cpp's reason."""
        self.path = Path(path)
        if not self.path.is_file():
            raise ModelLoadError(f"could not load the projector {path}: there is no such file")
        mark = log_mark()
        given, _device = _native(params)
        ptr = lib.shm_projector_new(os.fsencode(path), model.ptr, given)
        if ptr == ffi.NULL:
            raise_fault(f"could not load the projector {path}", mark=mark, error=ModelLoadError)
        self._n_users = 0
        self._closing = False
        self._changed = threading.Condition()
        super().__init__(ptr, lib.shm_projector_free, model)

    @contextmanager
    def in_use(self) -> Iterator[CData]:
        """Keep the native object, which this is, for a block; raises `ClosedError` once it is to go."""
        with self._changed:
            if self._closing:
                raise ClosedError("this Projector is closed")
            ptr = self.ptr
            self._n_users += 1
        try:
            yield ptr
        finally:
            with self._changed:
                self._n_users -= 1
                self._changed.notify_all()

    def close(self) -> None:
        """Free it, once nobody uses it any more: what computes an image cannot be interrupted."""
        with self._changed:
            self._closing = True
            self._changed.wait_for(lambda: self._n_users == 0)
        super().close()

    @property
    def sees(self) -> bool:
        """Whether it takes images; others take sound."""
        return bool(lib.shm_projector_sees(self.ptr))

    def encode(self, picture: Picture) -> int:
        """Compute a picture's embeddings, which takes a while; return their bytes.

        Raises `LlamaError` if that fails.
        """
        mark = log_mark()
        with self.in_use() as used:
            n_bytes = int(lib.shm_picture_encode(used, picture.ptr))
        if n_bytes < 0:
            raise_fault("computing an image", mark=mark)
        return n_bytes


def projector_size(path: str | os.PathLike[str], params: ProjectorParams) -> int:
    """Return the bytes that a projector will take, weights and buffers, without loading it.

    Raises `ModelLoadError` with llama.cpp's reason.
    """
    mark = log_mark()
    given, _device = _native(params)
    size = int(lib.shm_projector_size(os.fsencode(path), given))
    if size < 0:
        raise_fault(f"could not read the projector {path}", mark=mark, error=ModelLoadError)
    return size


def _native(params: ProjectorParams) -> tuple[CData, CData]:
    """Return the parameters, and the text that they point to, which the caller keeps."""
    device = ffi.NULL
    if params.device is not None:
        device = ffi.new("char[]", _checks.nul_free("device", params.device))
    least, most = params.image_min_tokens, params.image_max_tokens
    given = ffi.new(
        "struct shm_projector_params *",
        {
            "device": device,
            "n_threads": params.n_threads,
            "image_min_tokens": -1 if least is None else least,
            "image_max_tokens": -1 if most is None else most,
        },
    )
    return given, device
