"""`shimmy serve`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shimmy.cli.engine_flags import engine_flags, engine_options
from shimmy.cli.flags import GlobalFlags, global_flags
from shimmy.cli.numbers import Whole
from shimmy.cli.pool_flags import pool_flags
from shimmy.cli.sections import SectionedCommand
from shimmy.config import ServerConfig
from shimmy.engine.types.options import MAX_PARALLEL, EngineOptions
from shimmy.errors import (
    BackendError,
    ConfigError,
    EngineClosedError,
    InvalidRequestError,
    ShimmyError,
)
from shimmy.models.registry import Registry
from shimmy.server.bind import join_address

if TYPE_CHECKING:
    from shimmy.cli.banner import Banner
    from shimmy.cli.better import Better
    from shimmy.cli.settings.resolve import Settings
    from shimmy.models.pool import Pool


def _name(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    if value is not None and not value.strip():
        raise click.BadParameter("give a name that requests can ask for")
    return value


@click.command(name="serve", cls=SectionedCommand)
@global_flags("config", "model_dirs", "gpu_backend", "moe")
@click.option(
    "--bind",
    metavar="auto|HOST:PORT",
    help="Where to listen; auto is SHIMMY_BIND_ADDRESS or the first free port from 11435.",
)
@click.option("--host", metavar="H", help="Where to listen: the address.")
@click.option("--port", type=Whole(0, 65535), metavar="P", help="Where to listen: the port.")
@click.option(
    "-m",
    "--model",
    "--model-path",
    "model_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Model to serve first.",
)
@click.option(
    "-a",
    "--alias",
    callback=_name,
    metavar="NAME",
    help="Name under which the model is served.",
)
@click.option(
    "--auto",
    is_flag=True,
    help="Serve what is here now, fetch the best that fits this machine, and switch to it.",
)
@pool_flags
@click.option(
    "-np",
    "--parallel",
    "n_parallel",
    type=Whole(1, MAX_PARALLEL),
    metavar="N",
    help="Requests that run at once.",
)
@engine_flags
@click.option(
    "--api-key", "api_keys", multiple=True, metavar="KEY", help="Ask for a key; may be repeated."
)
@click.option(
    "--cors-origin",
    "cors_origins",
    multiple=True,
    metavar="ORIGIN",
    help="Web origin that may call; may be repeated.",
)
@click.option("-v", "--verbose", count=True, help="Log more, llama.cpp's lines too; -vv: all.")
def command(
    flags: GlobalFlags,
    *,
    bind: str | None,
    host: str | None,
    port: int | None,
    model_path: Path | None,
    alias: str | None,
    auto: bool,
    pool: dict[str, object],
    n_parallel: int | None,
    engine: dict[str, object],
    api_keys: tuple[str, ...],
    cors_origins: tuple[str, ...],
    verbose: int,
) -> None:
    """Serve models over HTTP until SIGTERM or Ctrl-C."""
    from shimmy.cli.better import Better
    from shimmy.cli.models import registry
    from shimmy.cli.settings.resolve import given, resolve

    flag_values = {
        "bind": bind,
        "host": host,
        "port": port,
        "model_path": model_path,
        "n_parallel": n_parallel,
        "api_keys": api_keys,
        "cors_origins": cors_origins,
    }
    settings = resolve(flags.config, given({**asdict(flags), **engine, **pool, **flag_values}))
    level = ("info", "debug")[min(verbose, 2) - 1] if verbose else settings["log.level"]
    form = settings["log.format"]
    _log(level, form)
    options = engine_options(flags, engine, n_parallel=n_parallel, log_level=level, log_format=form)
    model_path = settings["models.path"] and Path(settings["models.path"])
    models = registry(flags, model_path=model_path, alias=None if auto else alias)
    spec = _spec(bind, host, port) or settings.spec()
    better = Better(models, settings, alias or "auto") if auto else None
    serving = _serve(
        models,
        options,
        settings.server(),
        spec,
        strict=model_path is not None,
        settings=settings,
        better=better,
    )
    asyncio.run(serving)


async def _serve(
    models: Registry,
    options: EngineOptions,
    config: ServerConfig,
    spec: str,
    *,
    strict: bool,
    settings: Settings,
    better: Better | None,
) -> None:
    """Serve until a signal; with `strict`, no longer than the first load fails."""
    from shimmy.cli.models import default
    from shimmy.models.pool import Pool
    from shimmy.server import bind

    entry = better.starter if better else default(models)
    sock = bind(spec)
    pool = Pool(
        models,
        options,
        budget=settings.budget(),
        idle_unload=settings["models.idle_unload"],
        profiles=settings.profiles,
        aliases=better.aliases if better else settings.aliases,
        default=better.alias if better else None,
    )
    # the worker starts on another core while this one imports the HTTP side, which takes as long
    await pool.start()
    from shimmy import __version__
    from shimmy.cli.banner import Banner
    from shimmy.server.half import defer_client

    defer_client()
    from shimmy.server import make_app, serve

    upgrade = better.upgrade(pool) if better else None
    banner = Banner(sock.getsockname()[:2])
    banner.opening(__version__, entry, len(models.entries()))
    app = make_app(pool, config, upgrade=upgrade)
    serving = asyncio.create_task(serve(app, sock, config))
    announcing = asyncio.create_task(_announce(banner, pool))
    upgrading = [asyncio.create_task(upgrade.run())] if upgrade else []
    try:
        await asyncio.wait({serving, announcing}, return_when=asyncio.FIRST_COMPLETED)
        if announcing.done() and (error := announcing.exception()) is not None:
            if strict or _is_final(error, models):
                raise error
            click.echo(f"error: {error}", err=True)
        await serving
    finally:
        tasks = (serving, announcing, *upgrading)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _announce(banner: Banner, pool: Pool) -> None:
    """Follow the first load and say when requests can be answered."""
    with contextlib.suppress(EngineClosedError):  # a signal came first
        if pool.current is None:
            await pool.load(None)  # its header was refused: this says why
        if pool.current is not None:
            banner.ready(await banner.loading(pool.current))


def _is_final(error: BaseException, models: Registry) -> bool:
    """Whether no other model could do better: there is none, or a flag or a fault is to blame."""
    blamed = isinstance(error, ConfigError | InvalidRequestError | BackendError)
    return blamed or not isinstance(error, ShimmyError) or len(models.entries()) == 1


def _spec(bind: str | None, host: str | None, port: int | None) -> str | None:
    """Join --host and --port into what --bind takes; None if none of them was given."""
    if host is None and port is None:
        return bind
    if bind is not None:
        raise click.UsageError("--bind cannot be used with --host or --port")
    return join_address(host, port)


def _log(level: str, form: str) -> None:
    from shimmy.cli.line_log import log_to_stderr

    more = level in {"info", "debug"}
    log_to_stderr(logging.INFO if more else level.upper(), as_json=form == "json")
    quiet = logging.ERROR if level == "error" else logging.INFO
    logging.getLogger("shimmy").setLevel(logging.DEBUG if more else quiet)
