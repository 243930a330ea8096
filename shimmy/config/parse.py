"""How the text of a variable or of a flag is read; what cannot be is a `ValueError` that says what can."""

from __future__ import annotations

import math
import re

MIB = 1024 * 1024
LOG_LEVELS = ("error", "warning", "info", "debug")
LOG_FORMATS = ("text", "json")
CACHE_TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1")
GPU_BACKENDS = (
    "auto", "cpu", "cuda", "vulkan", "opencl", "metal", "hip", "sycl", "musa", "cann",
)  # fmt: skip


def parse_words(text: str) -> tuple[str, ...]:
    """Read words separated by commas."""
    return tuple(word for part in text.split(",") if (word := part.strip()))


def parse_seconds(text: str) -> float:
    """Read a plain number of seconds."""
    try:
        return float(text)
    except ValueError:
        raise ValueError("expected a number of seconds, such as 10 or 0.5") from None


def parse_bytes(text: str) -> int:
    """Read a plain number of bytes."""
    try:
        return int(text)
    except ValueError:
        raise ValueError("expected a whole number of bytes") from None


_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZES = {"": 1, "B": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12} | {
    "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40,
}  # fmt: skip


def parse_duration(text: str) -> float:
    """Read a time as 300, 90s, 5m, 1h or 2d; return seconds. A negative one means for ever.

    Raises:
        ValueError: it is none.
    """
    match = re.fullmatch(r"(-?\d+(?:\.\d+)?)(ms|s|m|h|d|)", text.strip().lower())
    if match is None:
        raise ValueError("expected a time, such as 300, 90s, 5m or 1h (-1: for ever)")
    value = float(match[1]) * _SECONDS[match[2] or "s"]
    return value if value >= 0 else math.inf


def parse_size(text: str) -> int:
    """Read a size as 4000000000, 4GB or 4GiB; return bytes.

    Raises:
        ValueError: it is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]I?)?B?", text.strip().upper())
    if match is None:
        raise ValueError("expected a size, such as 8GB, 8GiB or a number of bytes")
    return int(float(match[1]) * _SIZES[match[2] or ""])


def parse_count(text: str) -> int:
    """Read a whole number, 0 or more."""
    if not (text.isascii() and text.isdigit()):
        raise ValueError("expected a whole number, 0 or more")
    return int(text)


def parse_switch(text: str) -> bool:
    """Read 1 or 0, or words for them."""
    if text.lower() not in {"1", "true", "on", "yes", "0", "false", "off", "no"}:
        raise ValueError("expected 1 or 0")
    return text.lower() in {"1", "true", "on", "yes"}


def parse_level(text: str) -> str:
    """Read one of `LOG_LEVELS`."""
    if text.lower() not in LOG_LEVELS:
        raise ValueError(f"expected one of {', '.join(LOG_LEVELS)}")
    return text.lower()


def parse_log_format(text: str) -> str:
    """Read one of `LOG_FORMATS`."""
    if text.lower() not in LOG_FORMATS:
        raise ValueError(f"expected one of {', '.join(LOG_FORMATS)}")
    return text.lower()


def parse_kv_quant(text: str) -> str:
    """Read f32 or int4, the Rust shimmy's words, or a type of --cache-type-k; return the type."""
    word = text.lower()
    if word not in {"int4", *CACHE_TYPES}:
        raise ValueError(f"expected int4 or one of {', '.join(CACHE_TYPES)}")
    return "q4_0" if word == "int4" else word


def parse_stretch(text: str) -> float:
    """Read how many times the context is stretched; return --rope-freq-scale's factor for it."""
    try:
        times = float(text)
    except ValueError:
        times = 0.0
    if not 1.0 <= times < math.inf:
        raise ValueError("expected a number, 1 or more: 2 doubles the context")
    return 1.0 / times


def parse_gpu_backend(text: str) -> str:
    """Read one of `GPU_BACKENDS`."""
    if text.lower() not in GPU_BACKENDS:
        raise ValueError(f"expected one of {', '.join(GPU_BACKENDS)}")
    return text.lower()
