"""aiohttp's server without its client.

`import aiohttp` runs the client's modules too, whose connector reads all CA certificates of the
machine: a third of the time that `shimmy serve` takes to start. The server's modules need nothing of
the package but its version.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from importlib.util import find_spec, module_from_spec
from threading import Event, RLock

_NAME = "aiohttp"


def defer_client() -> None:
    """Have aiohttp's own module run when one of its names is asked for, not when it is imported.

    To be called before the first import; later calls do nothing.
    """
    if _NAME in sys.modules or (spec := find_spec(_NAME)) is None or spec.loader is None:
        return
    loader, package = spec.loader, module_from_spec(spec)
    lock, begun = RLock(), Event()

    def load(name: str) -> object:
        if find_spec(f"{_NAME}.{name}") is not None:
            raise AttributeError(name)  # a submodule, which the import system brings
        with lock:
            if not begun.is_set():
                begun.set()
                loader.exec_module(package)
            # it may have put one of its own there
            if package.__dict__.get("__getattr__") is load:
                del package.__dict__["__getattr__"]
        value: object = getattr(package, name)
        return value

    package.__dict__["__version__"] = version(_NAME)
    package.__dict__["__getattr__"] = load
    sys.modules[_NAME] = package
