"""Someone who may not read everything: root may, and tests often run as root."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

_VERSION = 0x20080522  # _LINUX_CAPABILITY_VERSION_3: each set is two words
# CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
_READ_ANYTHING = 1 << 1 | 1 << 2


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


@contextmanager
def nobody() -> Iterator[None]:
    """Run the block as an owner whose files' modes count, on this thread; without root's rights it changes nothing.

    The user stays the same: what the block imports must be readable.
    """
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = _Header(_VERSION, 0), (_Sets * 2)()

    def call(function: str) -> None:
        if getattr(libc, function)(ctypes.byref(header), sets):
            raise OSError(ctypes.get_errno(), function)

    call("capget")
    before = sets[0].effective
    sets[0].effective = before & ~_READ_ANYTHING
    call("capset")
    try:
        yield
    finally:
        sets[0].effective = before
        call("capset")
