"""The public engine: requests in, events out, whatever runs the model behind it.

The names below are loaded on first use: the worker, which takes `types` from here, needs no event loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shimmy.engine.chat import Reply as Reply
    from shimmy.engine.engine import Engine as Engine
    from shimmy.engine.generation import Generation as Generation
    from shimmy.engine.link import EngineState as EngineState
    from shimmy.engine.sync import SyncEngine as SyncEngine
    from shimmy.engine.sync_generation import SyncGeneration as SyncGeneration
    from shimmy.engine.system import describe_system as describe_system

# name: the module it lives in
_HOMES = {
    "Engine": "engine",
    "EngineState": "link",
    "Generation": "generation",
    "Reply": "chat",
    "SyncEngine": "sync",
    "SyncGeneration": "sync_generation",
    "describe_system": "system",
}


def __getattr__(name: str) -> object:
    """Load a public name on first use (PEP 562)."""
    if name in _HOMES:
        from importlib import import_module

        value: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
