"""`python -m shimmy.worker`: commands on stdin, reports on stdout, all other output on stderr."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from shimmy.engine.types.frame import Describe, Report
    from shimmy.worker.worker import Worker


def main() -> None:
    """Serve one parent until it closes stdin or says so."""
    # Native code prints to fd 1: the pipe gets a number of its own, and fd 1 becomes stderr.
    out = os.dup(1)
    os.dup2(2, 1)
    # Ctrl-C reaches the whole terminal group; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A step thread that waits for the GIL must not wait for the default 5 ms.
    sys.setswitchinterval(0.0005)

    # llama.cpp's lines are chosen by their level where they are forwarded; libraries have nothing to say below a warning
    logging.basicConfig(stream=sys.stderr, format="%(name)s: %(message)s")
    logging.getLogger("shimmy").setLevel(logging.DEBUG)

    from shimmy.engine.types.frame import Close, Describe
    from shimmy.worker.pipe import FrameReader, FrameWriter

    worker: Worker | None = None
    emit = FrameWriter(out).write
    reader = FrameReader(0)
    while (command := reader.read()) is not None and not isinstance(command, Close):
        if isinstance(command, Describe):
            # at once: whoever asks this asks nothing else, and importing the rest takes longer than the answer
            threading.Thread(target=_describe, args=(command, emit), daemon=True).start()
            continue
        worker = worker or _worker(emit)
        worker.handle(command)
    if worker is not None:
        worker.close()
    # Driver libraries crash in static destructors often enough; everything of ours is closed.
    sys.stderr.flush()
    os._exit(0)


def _worker(emit: Callable[[Report], None]) -> Worker:
    from shimmy.worker.worker import Worker

    return Worker(emit)


def _describe(command: Describe, emit: Callable[[Report], None]) -> None:
    from shimmy.worker.system import answer

    emit(answer(command))


if __name__ == "__main__":
    main()
