"""Settings of the server, and the one table of the environment variables that shimmy reads.

Flags win over variables, those over shimmy.toml (`shimmy.cli.settings` reads it), that over
defaults. A value that cannot be is a `ConfigError` that names the flag or the variable; nothing is
ever silently replaced.
"""

from __future__ import annotations

from shimmy.config.parse import (
    CACHE_TYPES,
    GPU_BACKENDS,
    LOG_FORMATS,
    LOG_LEVELS,
    MIB,
    parse_duration,
    parse_size,
)
from shimmy.config.server import (
    ServerConfig,
)
from shimmy.config.variable import (
    Variable,
)
from shimmy.config.variables import (
    ALLOWED_HOSTS,
    API_KEYS,
    BASE_GGUF,
    BIND_ADDRESS,
    CONFIG_FILE,
    CORS_ORIGINS,
    CPU_THREADS,
    DRAIN,
    GPU_BACKEND,
    HOST,
    IDLE_UNLOAD,
    KEEP_ALIVE,
    KV_QUANT,
    LOG_FORMAT,
    LOG_LEVEL,
    LORA_GGUF,
    MAX_BODY_BYTES,
    MAX_CTX,
    MAX_MEMORY,
    MMAP,
    MODEL,
    MODEL_PATHS,
    MODELS_MAX,
    NO_WORDS,
    PORT,
    PREFILL_CHUNK,
    ROPE_SCALE,
    VARIABLES,
    WRITE_TIMEOUT,
    AnyVariable,
)

__all__ = [
    "ALLOWED_HOSTS",
    "API_KEYS",
    "BASE_GGUF",
    "BIND_ADDRESS",
    "CACHE_TYPES",
    "CONFIG_FILE",
    "CORS_ORIGINS",
    "CPU_THREADS",
    "DRAIN",
    "GPU_BACKEND",
    "GPU_BACKENDS",
    "HOST",
    "IDLE_UNLOAD",
    "KEEP_ALIVE",
    "KV_QUANT",
    "LOG_FORMAT",
    "LOG_FORMATS",
    "LOG_LEVEL",
    "LOG_LEVELS",
    "LORA_GGUF",
    "MAX_BODY_BYTES",
    "MAX_CTX",
    "MAX_MEMORY",
    "MIB",
    "MMAP",
    "MODEL",
    "MODELS_MAX",
    "MODEL_PATHS",
    "NO_WORDS",
    "PORT",
    "PREFILL_CHUNK",
    "ROPE_SCALE",
    "VARIABLES",
    "WRITE_TIMEOUT",
    "AnyVariable",
    "ServerConfig",
    "Variable",
    "parse_duration",
    "parse_size",
]
