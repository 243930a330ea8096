"""The HTTP side: an aiohttp application over a pool of engines, one handler, many dialects.

Knows the engine's requests and events; knows nothing of llama.cpp, workers or GGUF files. The
application is loaded on first use: a command's --help needs no HTTP library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shimmy.server.bind import bind as bind

if TYPE_CHECKING:
    from shimmy.server.app import make_app as make_app
    from shimmy.server.lifecycle import serve as serve

__all__ = ["bind", "make_app", "serve"]

_HOMES = {"make_app": "app", "serve": "lifecycle"}


def __getattr__(name: str) -> object:
    """Load a public name on first use (PEP 562)."""
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"shimmy.server.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
