"""Write the C source of shimmy.llama._llama: emit.py OUTPUT PRELUDE CDEF..."""

from __future__ import annotations

import sys
from pathlib import Path

import cffi


def main() -> None:
    output, prelude, *cdefs = map(Path, sys.argv[1:])
    ffi = cffi.FFI()
    for cdef in cdefs:
        try:
            ffi.cdef(cdef.read_text())
        except (cffi.CDefError, cffi.FFIError) as error:
            sys.exit(f"{cdef}: {error}")  # cffi numbers lines, but knows no file names
    ffi.set_source("shimmy.llama._llama", prelude.read_text())
    ffi.emit_c_code(str(output))


if __name__ == "__main__":
    main()
