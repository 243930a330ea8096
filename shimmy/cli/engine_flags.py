"""Flags that shape one loaded model, under llama.cpp's names."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path

import click
import msgspec

from shimmy.cli.flags import GlobalFlags
from shimmy.engine.types.options import CACHE_TYPES, EngineOptions
from shimmy.errors import ConfigError

_COUNT = click.IntRange(min=1)


def _overrides(
    _ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[str, str], ...]:
    """Split REGEX=BUFT at the last `=`: a pattern may hold one, a buffer type does not."""
    pairs = []
    for value in values:
        pattern, _, buffer_type = value.rpartition("=")
        if not pattern or not buffer_type:
            raise click.BadParameter(f"{value!r} is not REGEX=BUFT, such as 'ffn_.*_exps=CPU'")
        pairs.append((pattern, buffer_type))
    return tuple(pairs)


def _adapters(
    _ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[str, float], ...]:
    """Split PATH=SCALE; what follows the last `=` is a scale only if it is a number."""
    adapters = []
    for value in values:
        path, separator, scale = value.rpartition("=")
        try:
            adapter = (path, float(scale)) if separator else (value, 1.0)
        except ValueError:
            adapter = (value, 1.0)
        if not Path(adapter[0]).is_file():
            raise click.BadParameter(f"adapter file {adapter[0]} not found")
        adapters.append(adapter)
    return tuple(adapters)


_OPTIONS: list[Callable[[Callable[..., None]], Callable[..., None]]] = [
    click.option("-c", "--ctx-size", "n_ctx", type=_COUNT, metavar="N", help="Context in tokens."),
    click.option(
        "-t", "--threads", "n_threads", type=_COUNT, metavar="N", help="CPU threads to compute on."
    ),
    click.option(
        "-ngl",
        "--n-gpu-layers",
        "n_gpu_layers",
        type=click.IntRange(min=0),
        metavar="N",
        help="Layers to keep on the GPU.",
    ),
    click.option(
        "-b", "--batch-size", "n_batch", type=_COUNT, metavar="N", help="Most tokens in one step."
    ),
    click.option(
        "-ub",
        "--ubatch-size",
        "n_ubatch",
        type=_COUNT,
        metavar="N",
        help="Most tokens in one pass over the model.",
    ),
    click.option(
        "-ot",
        "--override-tensor",
        "override_tensor",
        callback=_overrides,
        multiple=True,
        metavar="REGEX=BUFT",
        help="Put the tensors that match into a buffer type; may be repeated.",
    ),
    click.option(
        "-fa",
        "--flash-attn",
        "flash_attn",
        type=click.Choice(("on", "off", "auto")),
        help="Flash attention.",
    ),
    click.option(
        "-ctk",
        "--cache-type-k",
        "cache_type_k",
        type=click.Choice(CACHE_TYPES),
        metavar="TYPE",
        help="Type of the K cache.",
    ),
    click.option(
        "-ctv",
        "--cache-type-v",
        "cache_type_v",
        type=click.Choice(CACHE_TYPES),
        metavar="TYPE",
        help="Type of the V cache.",
    ),
    click.option(
        "--max-queue",
        "max_queue",
        type=click.IntRange(min=0),
        metavar="N",
        help="Requests that may wait for a slot; more get status 429. Default 512.",
    ),
    click.option(
        "--chat-template",
        metavar="FILE|chatml",
        help="Chat template in place of the model's: a Jinja file, or chatml.",
    ),
    click.option(
        "--lora",
        callback=_adapters,
        multiple=True,
        metavar="PATH[=SCALE]",
        help="LoRA adapter to apply; may be repeated.",
    ),
]


_NAMES = (
    "n_ctx",
    "n_threads",
    "n_gpu_layers",
    "n_batch",
    "n_ubatch",
    "override_tensor",
    "flash_attn",
    "cache_type_k",
    "cache_type_v",
    "max_queue",
    "chat_template",
    "lora",
)


def engine_flags(function: Callable[..., None]) -> Callable[..., None]:
    """Add the flags to a command; they reach it as `engine`, for `engine_options`."""

    @wraps(function)
    def command(*args: object, **values: object) -> None:
        given = {name: values.pop(name) for name in _NAMES}
        unset = (None, ())
        function(
            *args,
            engine={name: value for name, value in given.items() if value not in unset},
            **values,
        )

    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def engine_options(
    flags: GlobalFlags, engine: dict[str, object], *, model_path: str = "", **more: object
) -> EngineOptions:
    """Return the options that the flags ask for; those not given keep the engine's defaults.

    Raises:
        ConfigError: the chat template's file cannot be read.
    """
    values = {name: value for name, value in (engine | more).items() if value is not None}
    if flags.gpu_backend is not None:
        values["gpu_backend"] = flags.gpu_backend
    if flags.n_cpu_moe is not None:
        values["n_cpu_moe"] = flags.n_cpu_moe
    if "chat_template" in values:
        values["chat_template"] = _template(str(values["chat_template"]))
    values |= {"cpu_moe": flags.cpu_moe, "model_path": model_path}
    return msgspec.convert(values, EngineOptions)


def _template(given: str) -> str:
    """Return the text of a template file, or the name of a template."""
    path = Path(given)
    if not path.is_file() and (path.suffix or os.sep in given):
        raise ConfigError(f"chat template {given} not found", param="--chat-template")
    try:
        return path.read_text(encoding="utf-8") if path.is_file() else given
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"chat template {given} cannot be read: {error}", param="--chat-template"
        ) from error
