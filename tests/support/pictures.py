"""Image files for tests: a real PNG, and the beginnings of other kinds."""

from __future__ import annotations

import base64
import struct
import zlib


def png(red: int = 255, green: int = 0, blue: int = 0) -> bytes:
    """Return a PNG of one pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checked = kind + data
        return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes([0, red, green, blue])))
    return b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"")


PNG = png()
BLUE = png(0, 0, 255)
BEGINNINGS = {
    "image/png": PNG,
    "image/jpeg": b"\xff\xd8\xff\xe0 and so on",
    "image/webp": b"RIFF\x0a\0\0\0WEBPVP8L",
    "image/gif": b"GIF89a and so on",
}


def base64_of(data: bytes) -> str:
    """Return base64."""
    return base64.b64encode(data).decode()


def url_of(data: bytes, media_type: str = "image/png") -> str:
    """Return a data: URL."""
    return f"data:{media_type};base64,{base64_of(data)}"
