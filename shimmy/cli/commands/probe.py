"""`shimmy probe`."""

from __future__ import annotations

import click

from shimmy.cli.engine_flags import engine_flags, engine_options
from shimmy.cli.flags import GlobalFlags, global_flags
from shimmy.engine.types.info import ModelInfo
from shimmy.engine.types.options import EngineOptions

EXIT_NO_LOAD = 2


@click.command(name="probe")
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
    options = engine_options(flags, engine, model_path=entry.path, n_parallel=1, log_level="error")
    try:
        info = asyncio.run(_load(options))
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
    width = max(map(len, figures))
    for label, value in figures.items():
        print(f"  {label:<{width}}  {value}")
