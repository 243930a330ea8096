"""The public engine: requests in, events out, whatever runs the model behind it."""

from __future__ import annotations

from shimmy.engine.chat import Reply
from shimmy.engine.engine import Engine
from shimmy.engine.generation import Generation
from shimmy.engine.link import EngineState
from shimmy.engine.sync import SyncEngine
from shimmy.engine.sync_generation import SyncGeneration
from shimmy.engine.system import describe_system

__all__ = [
    "Engine",
    "EngineState",
    "Generation",
    "Reply",
    "SyncEngine",
    "SyncGeneration",
    "describe_system",
]
