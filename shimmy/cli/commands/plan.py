"""`shimmy plan`."""

from __future__ import annotations

import click

from shimmy.cli.engine_flags import engine_flags, engine_options
from shimmy.cli.flags import GlobalFlags, global_flags
from shimmy.cli.numbers import Whole
from shimmy.cli.sections import SectionedCommand
from shimmy.engine.types.options import MAX_PARALLEL

EXIT_NO_ROOM = 1


@click.command(name="plan", cls=SectionedCommand)
@global_flags("config", "model_dirs", "gpu_backend", "moe")
@click.argument("name", metavar="NAME|PATH")
@click.option(
    "-np",
    "--parallel",
    "n_parallel",
    type=Whole(1, MAX_PARALLEL),
    metavar="N",
    help="Requests that run at once.",
)
@engine_flags
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def command(
    ctx: click.Context,
    flags: GlobalFlags,
    *,
    name: str,
    n_parallel: int | None,
    engine: dict[str, object],
    as_json: bool,
) -> None:
    """Say what a model would take here, and how it would be loaded."""
    import asyncio

    from shimmy.cli.console import print_json
    from shimmy.cli.models import find
    from shimmy.cli.planned import show
    from shimmy.engine.planning import plan_load

    entry = find(flags, name)
    options = entry.options(engine_options(flags, engine, n_parallel=n_parallel, log_level="error"))
    plan = asyncio.run(plan_load(options))
    if as_json:
        print_json({"model": entry.name, "path": entry.path, "plan": plan})
    else:
        show(entry, plan)
    if plan.problem is not None:
        if as_json:
            click.echo(plan.problem, err=True)
        ctx.exit(EXIT_NO_ROOM)
