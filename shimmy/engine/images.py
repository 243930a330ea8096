"""Images of a conversation: from what callers give to files' bytes, and the marks that stand for them.

Nothing is decoded but base64: what is in a file is for the worker to see.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterable

import msgspec

from shimmy.engine.types.prompt import ChatPrompt, Message
from shimmy.engine.types.request import GenerateRequest
from shimmy.errors import ImageError

MAX_IMAGES = 64
"""In one conversation."""

MAX_IMAGE_BYTES = 20 * 1024 * 1024
MAX_IMAGES_BYTES = 128 * 1024 * 1024
"""All images of a conversation: they cross to the worker in one frame."""

MEDIA_TYPES = ("image/png", "image/jpeg", "image/webp", "image/gif")
# not registered, but what clients make of a file's ending
_ALSO = ("image/jpg",)

_SIGNATURES = {
    "image/png": rb"\x89PNG\r\n\x1a\n",
    "image/jpeg": rb"\xff\xd8\xff",
    "image/webp": rb"RIFF.{4}WEBP",
    "image/gif": rb"GIF8[79]a",
}
# of a data: URL, before its data
_MAX_HEAD = 1000
_SPACES = b" \t\r\n\v\f"
_ROLES = ("user", "tool")


class Images:
    """The images of one conversation, in the order of their marks."""

    def __init__(self) -> None:
        """Begin with none, and no mark."""
        self.files: list[bytes] = []
        self.mark = ""
        self._n_bytes = 0

    def add(self, data: bytes, field: str) -> str:
        """Take in an image file and return the mark that stands for it.

        Raises:
            ImageError: it is none, or too large, or there are too many; names `field`.
        """
        if isinstance(data, str):
            raise _bad(field, "is a text: it is to be the bytes of an image file")
        if not data:
            raise _bad(field, "is empty: it is to be an image file")
        if len(data) > MAX_IMAGE_BYTES:
            raise _bad(field, f"is too large: an image may have {_mib(MAX_IMAGE_BYTES)}")
        media_type_of(data, field)
        if len(self.files) == MAX_IMAGES:
            raise _bad(field, f"is one too many: a request may hold {MAX_IMAGES} images")
        self._n_bytes += len(data)
        if self._n_bytes > MAX_IMAGES_BYTES:
            raise _bad(
                field, f"is too much: the images of a request may have {_mib(MAX_IMAGES_BYTES)}"
            )
        self.files.append(data)
        # made of chance, so that no text can hold it
        self.mark = self.mark or f"<image-{os.urandom(16).hex()}>"
        return self.mark

    def add_base64(self, text: str, field: str) -> str:
        """Take in an image file as base64. Raises: as `add`, and where it is no base64."""
        try:
            data = _decoded(text)
        except ValueError:
            raise _bad(field, "is not base64, in which an image is sent") from None
        return self.add(data, field)

    def add_url(self, url: str, field: str) -> str:
        """Take in an image as a data: URL. Raises: as `add`, and where it is another kind of URL."""
        head, comma, text = url.partition(",")
        head = head[:_MAX_HEAD]
        scheme, colon, media = head.partition(":")
        if not (colon and scheme.strip().lower() == "data"):
            raise _bad(
                field,
                "is no data: URL, and shimmy fetches nothing: send the image itself, as "
                "data:image/png;base64,...",
            )
        kind, *params = media.lower().split(";")
        check_media_type(kind.strip(), field)
        if not comma or not params or params[-1].strip() != "base64":
            raise _bad(field, "is not base64: send the image as data:image/png;base64,...")
        return self.add_base64(text, field)

    def join(self, parts: Iterable[str]) -> str:
        """Return the parts of a message as one text: with line ends between texts, none at marks."""
        joined: list[str] = []
        for part in parts:
            if joined and not (self._ends(joined[-1]) or self._begins(part)):
                joined.append("\n")
            joined.append(part)
        return "".join(joined)

    def _ends(self, text: str) -> bool:
        return bool(self.mark) and text.endswith(self.mark)

    def _begins(self, text: str) -> bool:
        return bool(self.mark) and text.startswith(self.mark)


def check_media_type(media_type: str, field: str) -> None:
    """Raise `ImageError` unless images of that type are taken."""
    if media_type not in MEDIA_TYPES + _ALSO:
        known = ", ".join(MEDIA_TYPES)
        raise _bad(field, f"is of type {media_type[:40]!r}; images are {known}")


def media_type_of(data: bytes, field: str) -> str:
    """Return what kind of file an image is, by its first bytes.

    Raises:
        ImageError: it is none of those that are taken.
    """
    for media_type, signature in _SIGNATURES.items():
        if re.match(signature, data, re.DOTALL):
            return media_type
    raise _bad(field, "is not a PNG, JPEG, WebP or GIF file")


def data_url(data: bytes, field: str) -> str:
    """Return an image as a data: URL. Raises: as `media_type_of`."""
    return f"data:{media_type_of(data, field)};base64,{base64.b64encode(data).decode()}"


def gathered(prompt: ChatPrompt) -> ChatPrompt:
    """Return the conversation with the images of its messages as the worker takes them, by marks.

    Raises:
        ImageError: one cannot be taken; names it.
    """
    if not any(message.images for message in prompt.messages):
        return prompt
    if prompt.images:
        raise _bad("images", "are in the prompt and in its messages: give them in one place")
    images = Images()
    messages = [_marked(message, images, i) for i, message in enumerate(prompt.messages)]
    return msgspec.structs.replace(
        prompt, messages=messages, images=images.files, image_mark=images.mark
    )


def _marked(message: Message, images: Images, i: int) -> Message:
    if not message.images:
        return message
    field = f"messages[{i}].images"
    if message.role not in _ROLES:
        raise _bad(field, f"belong to messages of role {' or '.join(_ROLES)}, not {message.role}")
    marks = [images.add(data, f"{field}[{k}]") for k, data in enumerate(message.images)]
    return msgspec.structs.replace(message, content="".join(marks) + message.content, images=[])


def request_gathered(request: GenerateRequest) -> GenerateRequest:
    """Return the request with its conversation, if it is one, as `gathered`."""
    if not isinstance(request.prompt, ChatPrompt):
        return request
    prompt = gathered(request.prompt)
    return request if prompt is request.prompt else msgspec.structs.replace(request, prompt=prompt)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        # lines, as mail and `base64` have them; to look for them first would take longer
        return base64.b64decode(text.encode("ascii").translate(None, _SPACES), validate=True)


def _bad(field: str, what: str) -> ImageError:
    return ImageError(f"{field} {what}", param=field)


def _mib(n_bytes: int) -> str:
    return f"{n_bytes // (1024 * 1024)} MiB"
