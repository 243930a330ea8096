"""The one table of the environment variables that shimmy reads."""

from __future__ import annotations

import math
from typing import TypeAlias

from shimmy.config.parse import (
    MIB,
    parse_bytes,
    parse_count,
    parse_duration,
    parse_gpu_backend,
    parse_kv_quant,
    parse_level,
    parse_log_format,
    parse_seconds,
    parse_size,
    parse_stretch,
    parse_switch,
    parse_words,
)
from shimmy.config.variable import Variable

NO_WORDS: tuple[str, ...] = ()
NO_COUNT: int | None = None
NO_SWITCH: bool | None = None
NO_NUMBER: float | None = None
NO_WORD: str | None = None

CONFIG_FILE = Variable(
    name="SHIMMY_CONFIG",
    default="",
    parse=str,
    meaning="a configuration file in place of shimmy/shimmy.toml in the user's config folder",
)

BIND_ADDRESS = Variable(
    name="SHIMMY_BIND_ADDRESS",
    default="",
    parse=str,
    meaning="HOST:PORT that --bind auto takes before it looks for a free port",
    also=("SHIMMY_BIND",),
)
API_KEYS = Variable(
    name="SHIMMY_API_KEY",
    default=NO_WORDS,
    parse=parse_words,
    meaning="keys that clients must send, separated by commas; none: no key is asked for",
)
CORS_ORIGINS = Variable(
    name="SHIMMY_CORS_ORIGINS",
    default=NO_WORDS,
    parse=parse_words,
    meaning="web origins that may call, such as https://chat.example, by commas; '*' is all",
)
ALLOWED_HOSTS = Variable(
    name="SHIMMY_ALLOWED_HOSTS",
    default=NO_WORDS,
    parse=parse_words,
    meaning="further Host names answered on a loopback address, by commas; '*' is all",
)
MAX_BODY_BYTES = Variable(
    name="SHIMMY_MAX_BODY_BYTES",
    default=32 * MIB,
    parse=parse_bytes,
    meaning="largest request body, in bytes",
)
KEEP_ALIVE = Variable(
    name="SHIMMY_KEEP_ALIVE",
    default=10.0,
    parse=parse_seconds,
    meaning="seconds of silence after which a stream gets a comment; 0: never",
)
WRITE_TIMEOUT = Variable(
    name="SHIMMY_WRITE_TIMEOUT",
    default=60.0,
    parse=parse_seconds,
    meaning="seconds after which a client that reads nothing is dropped; 0: never",
)
DRAIN = Variable(
    name="SHIMMY_DRAIN",
    default=30.0,
    parse=parse_seconds,
    meaning="seconds that running requests get to finish after SIGTERM",
)
BASE_GGUF = Variable(
    name="SHIMMY_BASE_GGUF",
    default="",
    parse=str,
    meaning="a GGUF file to serve; its folder is searched as well",
)
LORA_GGUF = Variable(
    name="SHIMMY_LORA_GGUF",
    default="",
    parse=str,
    meaning="a LoRA adapter to apply to the model of SHIMMY_BASE_GGUF",
)
MODEL_PATHS = Variable(
    name="SHIMMY_MODEL_PATHS",
    default="",
    parse=str,
    meaning="further folders to search for models, separated by ';' on every system",
    also=("SHIMMY_MODEL_DIRS", "SHIMMY_MODELS_DIR"),
)
GPU_BACKEND = Variable(
    name="SHIMMY_GPU_BACKEND",
    default="auto",
    parse=parse_gpu_backend,
    meaning="the backend to run on where --gpu-backend is not given",
    also=("SHIMMY_ENGINE_BACKEND",),
)
HOST = Variable(
    name="SHIMMY_HOST",
    default="",
    parse=str,
    meaning="where to listen: the address, as --host",
)
PORT = Variable(
    name="SHIMMY_PORT",
    default=NO_COUNT,
    parse=parse_count,
    meaning="where to listen: the port, as --port",
)
MODEL = Variable(
    name="SHIMMY_MODEL",
    default="",
    parse=str,
    meaning="the model to serve first, as --model-path",
    also=("LIBSHIMMY_MODEL_PATH",),
)
MODELS_MAX = Variable(
    name="SHIMMY_MODELS_MAX",
    default=4,
    parse=parse_count,
    meaning="how many models may be loaded at once; 0: no limit",
)
MAX_MEMORY = Variable(
    name="SHIMMY_MAX_MEMORY",
    default=NO_COUNT,
    parse=parse_size,
    meaning="memory that the loaded models may take together, such as 8GiB; 0: no limit",
)
IDLE_UNLOAD = Variable(
    name="SHIMMY_IDLE_UNLOAD",
    default=math.inf,
    parse=parse_duration,
    meaning="time after which a model that nobody uses is unloaded, such as 5m; -1: never",
)
MAX_CTX = Variable(
    name="SHIMMY_MAX_CTX",
    default=NO_COUNT,
    parse=parse_count,
    meaning="context in tokens, as --ctx-size",
)
KV_QUANT = Variable(
    name="SHIMMY_KV_QUANT",
    default=NO_WORD,
    parse=parse_kv_quant,
    meaning="type of the KV cache, as --cache-type-k and --cache-type-v; int4 is q4_0",
)
PREFILL_CHUNK = Variable(
    name="SHIMMY_PREFILL_CHUNK",
    default=2048,
    parse=parse_count,
    meaning="tokens of prompts that one step takes in at most, as --batch-size",
)
ROPE_SCALE = Variable(
    name="SHIMMY_ROPE_SCALE",
    default=NO_NUMBER,
    parse=parse_stretch,
    meaning="how many times the context is stretched: 2 is --rope-freq-scale 0.5",
)
CPU_THREADS = Variable(
    name="SHIMMY_CPU_THREADS",
    default=NO_COUNT,
    parse=parse_count,
    meaning="CPU threads to compute on, as --threads",
)
MMAP = Variable(
    name="SHIMMY_MMAP",
    default=NO_SWITCH,
    parse=parse_switch,
    meaning="1 maps model files into memory (the default), 0 reads them",
)
LOG_LEVEL = Variable(
    name="SHIMMY_LOG_LEVEL",
    default="warning",
    parse=parse_level,
    meaning="what llama.cpp and the server log: error, warning, info or debug",
)
LOG_FORMAT = Variable(
    name="SHIMMY_LOG_FORMAT",
    default="text",
    parse=parse_log_format,
    meaning="how the server writes its log: text, or json with one object per line",
)

AnyVariable: TypeAlias = (
    Variable[str]
    | Variable[str | None]
    | Variable[int]
    | Variable[int | None]
    | Variable[bool | None]
    | Variable[float]
    | Variable[float | None]
    | Variable[tuple[str, ...]]
)

VARIABLES: tuple[AnyVariable, ...]
VARIABLES = (
    CONFIG_FILE,
    BIND_ADDRESS,
    HOST,
    PORT,
    API_KEYS,
    CORS_ORIGINS,
    ALLOWED_HOSTS,
    MAX_BODY_BYTES,
    KEEP_ALIVE,
    WRITE_TIMEOUT,
    DRAIN,
    BASE_GGUF,
    LORA_GGUF,
    MODEL_PATHS,
    MODEL,
    MODELS_MAX,
    MAX_MEMORY,
    IDLE_UNLOAD,
    GPU_BACKEND,
    MAX_CTX,
    KV_QUANT,
    PREFILL_CHUNK,
    ROPE_SCALE,
    CPU_THREADS,
    MMAP,
    LOG_LEVEL,
    LOG_FORMAT,
)
"""Every `SHIMMY_*` variable that is read anywhere, in the order in which documents list them."""
