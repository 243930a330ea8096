"""aiohttp's server without its client.

`import aiohttp` runs the client's modules too, whose connector reads all CA certificates of the machine: a third of the time that
`shimmy serve` takes to start. The server's modules need nothing of the package but its version.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from importlib.util import find_spec, module_from_spec

_NAME = "aiohttp"


def defer_client() -> None:
    """Have aiohttp's own module run when one of its names is asked for, not when it is imported.

    To be called before the first import; later calls do nothing.
    """
    if _NAME in sys.modules or (spec := find_spec(_NAME)) is None or spec.loader is None:
        return
    loader, package = spec.loader, module_from_spec(spec)

    def load(name: str) -> object:
        if find_spec(f"{_NAME}.{name}") is not None:
            raise AttributeError(name)  # a submodule, which the import system brings
        del package.__dict__["__getattr__"]
        loader.exec_module(package)
        value: object = getattr(package, name)
        return value

    package.__dict__["__version__"] = version(_NAME)
    package.__dict__["__getattr__"] = load
    sys.modules[_NAME] = package
