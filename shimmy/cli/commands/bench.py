"""`shimmy bench`."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

import click

from shimmy.cli.engine_flags import engine_flags, engine_options
from shimmy.cli.flags import GlobalFlags, global_flags
from shimmy.cli.numbers import Real, Whole
from shimmy.cli.sections import SectionedCommand
from shimmy.engine.types.options import MAX_PARALLEL, EngineOptions

if TYPE_CHECKING:
    from shimmy.cli.bench.figures import Level
    from shimmy.cli.bench.load import Plan, Subject, Target

_COUNT = Whole(min=1)
# Cells beyond what the largest round fills; llama.cpp rounds up to these anyway.
_SPARE_CELLS = 256


def _levels(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[int, ...]:
    """Split a list such as 1,4,8."""
    try:
        levels = tuple(int(word) for word in value.split(","))
    except ValueError:
        levels = ()
    if not levels or min(levels) < 1:
        raise click.BadParameter(f"{value!r} is not a list of counts, such as 1,4,8")
    return levels


@click.command(name="bench", cls=SectionedCommand)
@global_flags("model_dirs", "gpu_backend", "moe")
@click.argument("name", metavar="[NAME|PATH]", required=False)
@click.option("--url", metavar="URL", help="Measure a server: its OpenAI API, as in http://H:P/v1.")
@click.option("--model", metavar="M", help="With --url: the model; else the first it lists.")
@click.option("--api-key", metavar="KEY", help="With --url: the key to send.")
@click.option(
    "--concurrency",
    default="1",
    show_default=True,
    callback=_levels,
    metavar="N[,N...]",
    help="Requests at once; one line each.",
)
@click.option(
    "-p",
    "--prompt-tokens",
    type=_COUNT,
    default=128,
    show_default=True,
    metavar="N",
    help="Length of each prompt.",
)
@click.option(
    "--shared-prefix",
    type=Whole(min=0),
    default=0,
    metavar="N",
    help="Tokens in front of them that all prompts of a round share.",
)
@click.option(
    "-n",
    "--max-tokens",
    type=_COUNT,
    default=64,
    show_default=True,
    metavar="N",
    help="Tokens to generate.",
)
@click.option(
    "--temperature",
    type=Real(min=0),
    default=0.0,
    metavar="T",
    help="0, the default, takes the most likely token.",
)
@click.option(
    "-r",
    "--repeats",
    type=_COUNT,
    default=3,
    show_default=True,
    metavar="N",
    help="How often each is measured.",
)
@click.option(
    "--warmup",
    type=Whole(min=0),
    default=1,
    show_default=True,
    metavar="N",
    help="Rounds before those that count.",
)
@click.option(
    "-np",
    "--parallel",
    "n_parallel",
    type=Whole(1, MAX_PARALLEL),
    metavar="N",
    help="Requests that run at once; by default the highest concurrency.",
)
@engine_flags
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with every repeat's figures.")
def command(
    flags: GlobalFlags,
    *,
    name: str | None,
    url: str | None,
    model: str | None,
    api_key: str | None,
    n_parallel: int | None,
    engine: dict[str, object],
    as_json: bool,
    **sizes: object,
) -> None:
    """Measure the speed of a model, here or behind a URL.

    Prompt and generation speed in tokens per second, time to first token (TTFT) and latency between
    tokens (ITL). Requests of a round are sent at once; their prompts are words without meaning.
    """
    import asyncio

    import msgspec

    from shimmy.cli.bench.load import Plan

    plan = msgspec.convert(sizes, Plan)
    if url is not None:
        if name is not None or n_parallel is not None or engine or flags != GlobalFlags():
            raise click.UsageError("--url cannot be used with a NAME or flags of a local model")
        target = _remote(url, plan, model, api_key)
    else:
        if model is not None or api_key is not None:
            raise click.UsageError("--model and --api-key need --url; a local model is NAME")
        target = _local(flags, name, plan, engine | {"n_parallel": n_parallel})
    subject, levels = asyncio.run(_measure(target, plan))
    _show(subject, plan, levels, as_json=as_json)


def _remote(
    url: str, plan: Plan, model: str | None, api_key: str | None
) -> AbstractAsyncContextManager[Target[Any]]:
    from shimmy.cli.bench.remote import open_remote

    return open_remote(url, plan, model=model, api_key=api_key)


def _local(
    flags: GlobalFlags, name: str | None, plan: Plan, engine: dict[str, object]
) -> AbstractAsyncContextManager[Target[Any]]:
    from shimmy.cli.bench.local import open_local
    from shimmy.cli.models import find

    entry = find(flags, name)
    return open_local(entry, entry.options(_options(flags, engine, plan)), plan)


def _options(flags: GlobalFlags, engine: dict[str, object], plan: Plan) -> EngineOptions:
    """Fill in slots and context for the plan's largest round, where the flags do not say."""
    values: dict[str, object] = {
        "n_parallel": min(max(plan.concurrency), MAX_PARALLEL),
        "n_ctx": plan.n_cells + _SPARE_CELLS,
    }
    values |= {key: value for key, value in engine.items() if value is not None}
    return engine_options(flags, values, log_level="error")


async def _measure(
    target: AbstractAsyncContextManager[Target[Any]], plan: Plan
) -> tuple[Subject, list[Level]]:
    """Open the target and run the plan, with a bar if a person watches."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from shimmy.cli.bench.load import run
    from shimmy.cli.console import stderr

    console = stderr()
    animated = console.is_terminal and not console.is_dumb_terminal
    columns = (TextColumn("measuring"), BarColumn(), MofNCompleteColumn())
    async with target as opened:
        with Progress(*columns, console=console, transient=True, disable=not animated) as bar:
            task = bar.add_task("rounds", total=plan.n_rounds)
            levels = await run(opened, plan, lambda: bar.advance(task))
        return opened.subject, levels


def _show(subject: Subject, plan: Plan, levels: list[Level], *, as_json: bool) -> None:
    from shimmy.cli.bench import report
    from shimmy.cli.console import print_json, print_table

    for error in report.errors(levels):
        click.echo(error, err=True)
    if as_json:
        print_json(report.document(subject, plan, levels))
        return
    print(subject.line)
    print(report.sizes(plan))
    print()
    print_table(report.COLUMNS, report.rows(levels))
    print()
    print(subject.caption)
