"""The public engine: requests in, events out, whatever runs the model behind it."""

from __future__ import annotations

from shimmy.engine.engine import Engine, EngineState
from shimmy.engine.generation import Generation
from shimmy.engine.system import describe_system

__all__ = ["Engine", "EngineState", "Generation", "describe_system"]
