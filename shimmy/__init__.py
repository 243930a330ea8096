"""shimmy: a local inference server and library for GGUF models, over llama.cpp.

The names below are loaded on first use: `import shimmy` opens no shared library and no socket.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shimmy.engine import Engine as Engine
    from shimmy.engine import EngineState as EngineState
    from shimmy.engine import Generation as Generation
    from shimmy.engine import Reply as Reply
    from shimmy.engine import SyncEngine as SyncEngine
    from shimmy.engine import SyncGeneration as SyncGeneration
    from shimmy.engine import describe_system as describe_system
    from shimmy.engine.types.event import Accepted as Accepted
    from shimmy.engine.types.event import Delta as Delta
    from shimmy.engine.types.event import Finished as Finished
    from shimmy.engine.types.event import Timings as Timings
    from shimmy.engine.types.event import Usage as Usage
    from shimmy.engine.types.info import ModelInfo as ModelInfo
    from shimmy.engine.types.info import SystemInfo as SystemInfo
    from shimmy.engine.types.options import EngineOptions as EngineOptions
    from shimmy.engine.types.prompt import ChatPrompt as ChatPrompt
    from shimmy.engine.types.prompt import Message as Message
    from shimmy.engine.types.prompt import TextPrompt as TextPrompt
    from shimmy.engine.types.prompt import TokenPrompt as TokenPrompt
    from shimmy.engine.types.prompt import Tool as Tool
    from shimmy.engine.types.prompt import ToolCall as ToolCall
    from shimmy.engine.types.request import GenerateRequest as GenerateRequest
    from shimmy.engine.types.sampling import SamplingParams as SamplingParams
    from shimmy.errors import ConfigError as ConfigError
    from shimmy.errors import ContextLengthError as ContextLengthError
    from shimmy.errors import EngineClosedError as EngineClosedError
    from shimmy.errors import EngineDeadError as EngineDeadError
    from shimmy.errors import EngineLoadingError as EngineLoadingError
    from shimmy.errors import ImageError as ImageError
    from shimmy.errors import InvalidRequestError as InvalidRequestError
    from shimmy.errors import LlamaError as LlamaError
    from shimmy.errors import ModelLoadError as ModelLoadError
    from shimmy.errors import ModelNotFoundError as ModelNotFoundError
    from shimmy.errors import OverloadedError as OverloadedError
    from shimmy.errors import RemoteError as RemoteError
    from shimmy.errors import ShimmyError as ShimmyError
    from shimmy.errors import UnauthorizedError as UnauthorizedError
    from shimmy.errors import UnreachableError as UnreachableError

    __version__: str

# name: the module it lives in
_HOMES = {
    "Accepted": "shimmy.engine.types.event",
    "ChatPrompt": "shimmy.engine.types.prompt",
    "ConfigError": "shimmy.errors",
    "ContextLengthError": "shimmy.errors",
    "Delta": "shimmy.engine.types.event",
    "Engine": "shimmy.engine",
    "EngineClosedError": "shimmy.errors",
    "EngineDeadError": "shimmy.errors",
    "EngineLoadingError": "shimmy.errors",
    "EngineOptions": "shimmy.engine.types.options",
    "EngineState": "shimmy.engine",
    "Finished": "shimmy.engine.types.event",
    "GenerateRequest": "shimmy.engine.types.request",
    "Generation": "shimmy.engine",
    "ImageError": "shimmy.errors",
    "InvalidRequestError": "shimmy.errors",
    "LlamaError": "shimmy.errors",
    "Message": "shimmy.engine.types.prompt",
    "ModelInfo": "shimmy.engine.types.info",
    "ModelLoadError": "shimmy.errors",
    "ModelNotFoundError": "shimmy.errors",
    "OverloadedError": "shimmy.errors",
    "RemoteError": "shimmy.errors",
    "Reply": "shimmy.engine",
    "SamplingParams": "shimmy.engine.types.sampling",
    "ShimmyError": "shimmy.errors",
    "SyncEngine": "shimmy.engine",
    "SyncGeneration": "shimmy.engine",
    "SystemInfo": "shimmy.engine.types.info",
    "TextPrompt": "shimmy.engine.types.prompt",
    "Timings": "shimmy.engine.types.event",
    "TokenPrompt": "shimmy.engine.types.prompt",
    "Tool": "shimmy.engine.types.prompt",
    "ToolCall": "shimmy.engine.types.prompt",
    "UnauthorizedError": "shimmy.errors",
    "UnreachableError": "shimmy.errors",
    "Usage": "shimmy.engine.types.event",
    "describe_system": "shimmy.engine",
}


def __getattr__(name: str) -> object:
    """Load a public name on first use (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import version

        return version("shimmy-llm")
    if name in _HOMES:
        from importlib import import_module

        value: object = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted({*globals(), *_HOMES, "__version__"})
