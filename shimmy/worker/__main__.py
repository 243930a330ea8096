"""`python -m shimmy.worker`: commands on stdin, reports on stdout, all other output on stderr."""

from __future__ import annotations

import logging
import os
import signal
import sys


def main() -> None:
    """Serve one parent until it closes stdin or says so."""
    # Native code prints to fd 1: the pipe gets a number of its own, and fd 1 becomes stderr.
    out = os.dup(1)
    os.dup2(2, 1)
    # Ctrl-C reaches the whole terminal group; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A step thread that waits for the GIL must not wait for the default 5 ms.
    sys.setswitchinterval(0.0005)

    logging.basicConfig(level=logging.DEBUG, stream=sys.stderr, format="%(name)s: %(message)s")

    from shimmy.engine.types.frame import Close
    from shimmy.worker.pipe import FrameReader, FrameWriter
    from shimmy.worker.worker import Worker

    worker = Worker(FrameWriter(out).write)
    reader = FrameReader(0)
    while (command := reader.read()) is not None:
        worker.handle(command)
        if isinstance(command, Close):
            break
    worker.close()
    # Driver libraries crash in static destructors often enough; everything of ours is closed.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
