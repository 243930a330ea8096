"""`shimmy probe`."""

from __future__ import annotations

import click

from shimmy.cli.engine_flags import engine_flags, engine_options
from shimmy.cli.flags import GlobalFlags, global_flags
from shimmy.cli.sections import SectionedCommand
from shimmy.engine.types.info import DevicePlacement, ModelInfo
from shimmy.engine.types.options import EngineOptions

EXIT_NO_LOAD = 2


@click.command(name="probe", cls=SectionedCommand)
@global_flags("model_dirs", "gpu_backend", "moe")
@click.argument("name", metavar="NAME|PATH")
@engine_flags
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def command(
    ctx: click.Context,
    flags: GlobalFlags,
    *,
    name: str,
    engine: dict[str, object],
    as_json: bool,
) -> None:
    """Load a model once and report its figures."""
    import asyncio

    from shimmy.cli.console import print_json
    from shimmy.cli.models import find
    from shimmy.errors import ModelNotFoundError, ShimmyError

    try:
        entry = find(flags, name)
    except ModelNotFoundError as error:
        click.echo(f"no model {name}: `shimmy list` shows those there are", err=True)
        raise click.exceptions.Exit(1) from error
    asked = engine_options(flags, engine, n_parallel=1, log_level="error")
    try:
        info = asyncio.run(_load(entry.options(asked)))
    except ShimmyError as error:
        if as_json:
            print_json({"ok": False, "model": entry, "code": error.code, "error": error.message})
        click.echo(f"probe failed: {error.message}", err=True)
        ctx.exit(EXIT_NO_LOAD)
    if as_json:
        print_json({"ok": True, "model": entry, "info": info})
    else:
        print(f"ok: loaded {entry.title}")
        _show(info)


async def _load(options: EngineOptions) -> ModelInfo:
    from shimmy.engine import Engine

    async with Engine.child(options) as engine:
        return await engine.ready()


def _show(info: ModelInfo) -> None:
    from shimmy.cli.console import sized

    figures = {
        "model": info.description,
        "parameters": f"{info.n_params:,}",
        "size": sized(info.size),
        "context": f"{info.n_ctx:,} tokens (trained on {info.n_ctx_train:,})",
        "vocabulary": f"{info.n_vocab:,} tokens",
        "chat template": "yes" if info.has_chat_template else "no",
        "GPU layers": str(info.n_gpu_layers),
        "devices": ", ".join(info.devices) or "CPU",
        "threads": str(info.n_threads),
        "load time": f"{info.load_ms / 1000:.2f} s",
    }
    figures |= {f"on {one.device}": _placed(one) for one in info.placement}
    if info.notes:
        figures["note"] = "; ".join(info.notes)
    width = max(map(len, figures))
    for label, value in figures.items():
        print(f"  {label:<{width}}  {value}")


def _placed(one: DevicePlacement) -> str:
    """Say what of the model lies on a device."""
    from shimmy.cli.console import sized

    layers = [f"layers {_ranges(one.layers)}"] if one.layers else []
    if one.output:
        layers.append("the output")
    if one.experts:
        layers.append(f"experts of layers {_ranges(one.experts)}")
    return ", ".join(
        [
            *layers,
            f"weights {sized(one.weights)}",
            f"KV cache {sized(one.kv)}",
            f"to compute {sized(one.compute)}",
        ]
    )


def _ranges(numbers: list[int]) -> str:
    """Write sorted numbers as ranges: 0-3, 7."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in runs)
