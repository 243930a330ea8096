"""The cffi extension, started up once, and the map from its faults to typed errors."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from shimmy.errors import InvalidRequestError, LlamaError, NativeAbortError

if TYPE_CHECKING:
    from collections.abc import Callable

# Before the libraries are loaded: ggml would answer an abort with gdb, forked from inside the process.
os.environ.setdefault("GGML_NO_BACKTRACE", "1")

# ggml's threads meet several hundred times for each token. libgomp lets those that wait spin for a long time first: on a
# machine with other work to do (two cores, a server process, a compiler) that costs up to 20 times the speed, because the
# thread that is waited for does not run. A short spin keeps the speed on an idle machine; sleeping at once does not.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

try:
    from shimmy.llama import _llama
    from shimmy.llama._llama import ffi, lib
except ImportError as error:
    raise ImportError(
        f"shimmy's native extension cannot be loaded: {error}. "
        "In a checkout run ci/dev, else reinstall the package"
    ) from error

__all__ = [
    "LIB_DIR",
    "CData",
    "check",
    "errors_since",
    "ffi",
    "lib",
    "log_mark",
    "optional_text",
    "raise_fault",
    "sized_text",
    "take_text",
    "text",
]

CData = Any
"""A cffi pointer, struct or array."""

# Beside the extension, not beside this file: an editable install keeps them in different places.
LIB_DIR = Path(_llama.__file__).parent / "lib"

if lib.shm_abi_version() != lib.SHM_ABI_VERSION:
    raise ImportError(
        f"{_llama.__file__} and {LIB_DIR} come from different builds of shimmy: reinstall it"
    )
lib.shm_init()


def raise_fault(
    what: str, *, mark: int | None = None, error: type[LlamaError] = LlamaError
) -> NoReturn:
    """Raise the calling thread's last fault; `what` says what was tried.

    With a `mark` of `log_mark()`, llama.cpp's warnings and errors since then go along.
    """
    fault = lib.shm_last_fault()
    reason = text(lib.shm_last_error()) or "no reason given"
    message = f"{what}: {reason}"
    log = errors_since(mark) if mark is not None else ()
    if fault == lib.SHM_FAULT_INVALID_ARGUMENT:
        raise InvalidRequestError("\n  ".join((message, *log)))
    if fault == lib.SHM_FAULT_ABORTED and error is LlamaError:
        error = NativeAbortError
    raise error(message, log=log)


def check(code: int, what: str, *, mark: int | None = None) -> int:
    """Return a shim function's `code`, or raise its fault."""
    if code == lib.SHM_FAULT:
        raise_fault(what, mark=mark)
    return code


def text(pointer: CData) -> str:
    """Return a C string that stays C's."""
    return bytes(ffi.string(pointer)).decode("utf-8", "replace")


def optional_text(pointer: CData) -> str | None:
    """Return a C string that stays C's, or None for NULL."""
    return None if pointer == ffi.NULL else text(pointer)


def take_text(pointer: CData, what: str) -> str:
    """Return a string that the shim has allocated and release it; raise the fault for NULL."""
    if pointer == ffi.NULL:
        raise_fault(what)
    try:
        return text(pointer)
    finally:
        lib.shm_free(pointer)


def log_mark() -> int:
    """Return a point in the log for `errors_since`."""
    return int(lib.shm_log_mark())


def errors_since(mark: int) -> tuple[str, ...]:
    """Return the warning and error lines that this thread's native calls have logged since `mark`."""
    lines = take_text(lib.shm_log_errors_since(mark), "reading the log")
    return tuple(lines.splitlines())


def sized_text(function: Callable[..., int], *arguments: object) -> str | None:
    """Call a function that fills (buffer, size) and returns the length it needs, or -1 for None."""
    size = 256
    while True:
        buffer = ffi.new("char[]", size)
        needed = int(function(*arguments, buffer, size))
        if needed < 0:
            return None
        if needed < size:
            return bytes(ffi.buffer(buffer, needed)).decode("utf-8", "replace")
        size = needed + 1
