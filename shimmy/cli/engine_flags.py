"""Flags that shape one loaded model, under llama.cpp's names."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path

import click
import msgspec

from shimmy.cli.cache_flags import CACHE_NAMES, CACHE_OPTIONS
from shimmy.cli.device_flags import DEVICE_NAMES, DEVICE_OPTIONS
from shimmy.cli.flags import GlobalFlags
from shimmy.cli.numbers import Whole
from shimmy.cli.projector_flags import PROJECTOR_NAMES, PROJECTOR_OPTIONS, check_projector
from shimmy.cli.rope_flags import ROPE_NAMES, ROPE_OPTIONS
from shimmy.engine.types.options import EngineOptions
from shimmy.errors import ConfigError

_COUNT = Whole(min=1)


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
    from shimmy.models.adapter import flaw

    adapters = []
    for value in values:
        path, separator, scale = value.rpartition("=")
        try:
            adapter = (path, float(scale)) if separator else (value, 1.0)
        except ValueError:
            adapter = (value, 1.0)
        if not Path(adapter[0]).is_file():
            raise click.BadParameter(f"adapter file {adapter[0]} not found")
        if found := flaw(Path(adapter[0])):
            raise click.BadParameter(found)
        adapters.append(adapter)
    return tuple(adapters)


_OPTIONS: list[Callable[[Callable[..., None]], Callable[..., None]]] = [
    click.option("-c", "--ctx-size", "n_ctx", type=_COUNT, metavar="N", help="Context in tokens."),
    click.option(
        "-t", "--threads", "n_threads", type=_COUNT, metavar="N", help="CPU threads to compute on."
    ),
    click.option(
        "-tb",
        "--threads-batch",
        "n_threads_batch",
        type=_COUNT,
        metavar="N",
        help="CPU threads for steps of more than one token; default: the same.",
    ),
    click.option(
        "-ngl",
        "--n-gpu-layers",
        "n_gpu_layers",
        type=Whole(min=0),
        metavar="N",
        help="Layers to keep on the GPU.",
    ),
    *DEVICE_OPTIONS,
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
    *CACHE_OPTIONS,
    *ROPE_OPTIONS,
    click.option(
        "--max-queue",
        "max_queue",
        type=Whole(min=0),
        metavar="N",
        help="Requests that may wait for a slot; more get status 429. Default 512.",
    ),
    click.option(
        "--chat-template",
        metavar="FILE|NAME|JINJA",
        help="Chat template in place of the model's: a Jinja file, its text, or llama.cpp's name.",
    ),
    click.option(
        "--lora",
        callback=_adapters,
        multiple=True,
        metavar="PATH[=SCALE]",
        help="LoRA adapter to apply; may be repeated.",
    ),
    *PROJECTOR_OPTIONS,
]


_NAMES = (
    "n_ctx",
    "n_threads",
    "n_threads_batch",
    "n_gpu_layers",
    *DEVICE_NAMES,
    "n_batch",
    "n_ubatch",
    "override_tensor",
    *CACHE_NAMES,
    *ROPE_NAMES,
    "max_queue",
    "chat_template",
    "lora",
    *PROJECTOR_NAMES,
)


def engine_flags(function: Callable[..., None]) -> Callable[..., None]:
    """Add the flags to a command; they reach it as `engine`, for `engine_options`."""

    @wraps(function)
    def command(*args: object, **values: object) -> None:
        given = {name: values.pop(name) for name in _NAMES}
        check_projector(given)
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
    """Return the options that the flags ask for, or else the environment or shimmy.toml.

    Raises:
        ConfigError: the configuration or the chat template's file cannot be read; or options that
            do not go together.
    """
    from shimmy.cli.settings.resolve import resolve
    from shimmy.models.projector import check_image_tokens

    values = resolve(flags.config, {}).engine()
    values |= {name: value for name, value in (engine | more).items() if value is not None}
    if flags.gpu_backend is not None:
        values["gpu_backend"] = flags.gpu_backend
    # each of them ends what the file says of the other
    if flags.n_cpu_moe is not None:
        values |= {"n_cpu_moe": flags.n_cpu_moe, "cpu_moe": False}
    elif flags.cpu_moe:
        values |= {"n_cpu_moe": None, "cpu_moe": True}
    if engine.get("mmproj") is not None:
        values["use_mmproj"] = True
    if "chat_template" in values:
        values["chat_template"] = _template(str(values["chat_template"]))
    values["model_path"] = model_path
    options = msgspec.convert(values, EngineOptions)
    check_image_tokens(options)
    return options


def _template(given: str) -> str:
    """Return the text of a template file, or a template's name or text as it is."""
    if "{" in given:
        return given
    path = Path(given)
    if not path.is_file() and (path.suffix or os.sep in given):
        raise ConfigError(f"chat template {given} not found", param="--chat-template")
    try:
        return path.read_text(encoding="utf-8") if path.is_file() else given
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"chat template {given} cannot be read: {error}", param="--chat-template"
        ) from error
